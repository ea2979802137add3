// The views by address: one line each. `crumbs` is what the top shows of where you are. A view with
// `load` is a module of its own, which is fetched when the page has nothing else to do, or when it is opened.
import { href } from '../lib/router.js';
import { titleOf } from '../lib/rollouts.js';
import { Service } from './service.js';
import { Services } from './services.js';

const services = { label: 'Services', href: '#/services' };
const of = (more) => ({ params, query }) => {
  const last = more || (query.has('edit') ? 'Edit' : '');
  return last === '' ? [services, { label: params.name }] : [services, { label: params.name, href: href(['services', params.name]) }, { label: last }];
};
const cog = (label) => () => [{ label: 'Cluster and settings', href: '#/cog/cluster' }, { label }];

export const views = [
  { path: 'services', view: Services, crumbs: () => [{ label: 'Services' }] },
  { path: 'services/:name', view: Service, crumbs: of() },
  { path: 'add', load: async () => (await import('./add.js')).Add, crumbs: () => [services, { label: 'Add a service' }] },
  { path: 'services/:name/history', load: async () => (await import('./history.js')).History, crumbs: of('History') },
  { path: 'services/:name/instances', load: async () => (await import('./instances.js')).Instances, crumbs: of('Instances') },
  { path: 'services/:name/secrets', load: async () => (await import('./secrets.js')).Secrets, crumbs: of('Secrets') },
  { path: 'services/:name/schema', load: async () => (await import('./schema.js')).Schema, crumbs: of('Schema') },
  { path: 'search', load: async () => (await import('./search.js')).Search, crumbs: () => [services, { label: 'Search' }] },
  { path: 'rollouts', load: async () => (await import('./rollouts.js')).Rollouts, crumbs: () => [{ label: 'Rollouts' }] },
  { path: 'rollouts/:id', load: async () => (await import('./rollout.js')).Rollout, crumbs: ({ params }) => [{ label: 'Rollouts', href: '#/rollouts' }, { label: titleOf(params.id) }] },
  { path: 'profiles', load: async () => (await import('./profiles.js')).Profiles, crumbs: () => [{ label: 'Profiles' }] },
  { path: 'cog/cluster', load: async () => (await import('./cluster.js')).Cluster, crumbs: cog('Cluster') },
  { path: 'cog/health', load: async () => (await import('./health.js')).Health, crumbs: cog('Health') },
  { path: 'cog/backup', load: async () => (await import('./backup.js')).Backup, crumbs: cog('Backup') },
  { path: 'cog/keys', load: async () => (await import('./keys.js')).Keys, crumbs: cog('Keys') },
  { path: 'cog/tokens', load: async () => (await import('./tokens.js')).Tokens, crumbs: cog('Tokens') },
  { path: 'cog/access', load: async () => (await import('./access.js')).Access, crumbs: cog('Access log') },
  { path: 'cog/about', load: async () => (await import('./about.js')).About, crumbs: cog('About') },
];
