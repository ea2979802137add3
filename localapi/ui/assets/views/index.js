// The views by address: one line each. `crumbs` is what the top shows of where you are.
import { href } from '../lib/router.js';
import { Service } from './service.js';
import { Add } from './add.js';
import { About } from './about.js';
import { Access } from './access.js';
import { Backup } from './backup.js';
import { Cluster } from './cluster.js';
import { Health } from './health.js';
import { Keys } from './keys.js';
import { Profiles } from './profiles.js';
import { Schema } from './schema.js';
import { Secrets } from './secrets.js';
import { History } from './history.js';
import { Search } from './search.js';
import { Services } from './services.js';
import { Tokens } from './tokens.js';

const services = { label: 'Services', href: '#/services' };
const of = (more) => ({ params }) => [services, more ? { label: params.name, href: href(['services', params.name]) } : { label: params.name }, ...(more ? [{ label: more }] : [])];
const cog = (label) => () => [{ label: 'Cluster and settings', href: '#/cog/cluster' }, { label }];

export const views = [
  { path: 'services', view: Services, crumbs: () => [{ label: 'Services' }] },
  { path: 'add', view: Add, crumbs: () => [services, { label: 'Add a service' }] },
  { path: 'services/:name', view: Service, crumbs: of() },
  { path: 'services/:name/secrets', view: Secrets, crumbs: of('Secrets') },
  { path: 'services/:name/schema', view: Schema, crumbs: of('Schema') },
  { path: 'profiles', view: Profiles, crumbs: () => [{ label: 'Profiles' }] },
  { path: 'cog/cluster', view: Cluster, crumbs: cog('Cluster') },
  { path: 'cog/health', view: Health, crumbs: cog('Health') },
  { path: 'cog/backup', view: Backup, crumbs: cog('Backup') },
  { path: 'cog/keys', view: Keys, crumbs: cog('Keys') },
  { path: 'cog/tokens', view: Tokens, crumbs: cog('Tokens') },
  { path: 'cog/access', view: Access, crumbs: cog('Access log') },
  { path: 'cog/about', view: About, crumbs: cog('About') },
  { path: 'services/:name/history', view: History, crumbs: of('History') },
  { path: 'search', view: Search, crumbs: () => [{ label: 'Search' }] },
];

export { of, cog };
