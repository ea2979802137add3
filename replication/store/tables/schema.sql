CREATE TABLE schema_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    model_hash TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE TABLE service_configs (
    service TEXT PRIMARY KEY,
    config_json TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    config_epoch TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    values_json TEXT NOT NULL,
    checksum TEXT NOT NULL,
    issued_at TEXT NOT NULL,
    signature TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    idx INTEGER NOT NULL,
    digest BLOB NOT NULL
);
CREATE INDEX idx_service_configs_epoch ON service_configs(config_epoch);

CREATE TABLE config_items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    value_json TEXT NOT NULL,
    type TEXT NOT NULL,
    complexity TEXT NOT NULL,
    description TEXT NOT NULL,
    help_text TEXT,
    is_secret INTEGER NOT NULL DEFAULT 0,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    UNIQUE(service, key)
);
CREATE INDEX idx_config_items_service ON config_items(service);
CREATE INDEX idx_config_items_complexity ON config_items(complexity);
CREATE INDEX idx_config_items_key ON config_items(key);
CREATE INDEX idx_config_items_search ON config_items(service, key, description);
CREATE INDEX idx_config_items_by_complexity ON config_items(complexity, service, key, type);
CREATE INDEX idx_config_items_by_type ON config_items(type, service, key, complexity);
CREATE VIRTUAL TABLE items_fts USING fts5(service, key, value, description, help, facets, content='', contentless_delete=1, tokenize='trigram');

CREATE TABLE items_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    idx INTEGER NOT NULL
);

CREATE TABLE config_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    old_value_json TEXT,
    new_value_json TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    changed_by TEXT,
    change_reason TEXT,
    version INTEGER NOT NULL,
    action TEXT NOT NULL,
    digest BLOB NOT NULL
);
CREATE INDEX idx_config_history_service ON config_history(service);
CREATE INDEX idx_config_history_time ON config_history(changed_at);
CREATE INDEX idx_config_history_key ON config_history(key, service);
CREATE INDEX idx_config_history_all ON config_history(changed_at, changed_by, service, key, version);

CREATE TABLE encrypted_secrets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    encrypted_value TEXT NOT NULL,
    key_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    digest BLOB NOT NULL DEFAULT x'',
    UNIQUE(service, key)
);
CREATE INDEX idx_encrypted_secrets_key_id ON encrypted_secrets(key_id);

CREATE TABLE access_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT,
    action TEXT NOT NULL,
    service TEXT,
    key TEXT,
    success INTEGER NOT NULL,
    reason TEXT,
    timestamp TEXT NOT NULL,
    digest BLOB NOT NULL
);
CREATE INDEX idx_access_log_time ON access_log(timestamp);
CREATE INDEX idx_access_log_user ON access_log(user_id);
CREATE INDEX idx_access_log_service ON access_log(service);
CREATE INDEX idx_access_log_all ON access_log(timestamp, user_id, service, action);

CREATE TABLE schemas (
    service TEXT PRIMARY KEY,
    schema_json TEXT NOT NULL,
    hash TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    digest BLOB NOT NULL
);

CREATE TABLE profiles (
    name TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    services_json TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    digest BLOB NOT NULL
);

CREATE TABLE config_versions (
    service TEXT NOT NULL,
    version INTEGER NOT NULL,
    values_json TEXT NOT NULL,
    checksum TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    updated_by TEXT,
    reason TEXT,
    action TEXT NOT NULL,
    config_epoch TEXT NOT NULL,
    issued_at TEXT NOT NULL,
    signature TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (service, version)
);

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    idx INTEGER NOT NULL UNIQUE,
    result_json TEXT NOT NULL,
    digest BLOB NOT NULL
);

CREATE TABLE members (
    node_id TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    service TEXT,
    addr TEXT NOT NULL,
    version TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    joined_at TEXT NOT NULL,
    removed_at TEXT,
    digest BLOB NOT NULL
);

CREATE TABLE member_keys (
    node_id TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    since TEXT NOT NULL,
    revoked_at TEXT,
    ends_at TEXT,
    digest BLOB NOT NULL,
    PRIMARY KEY (node_id, key_hash)
);

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    service TEXT,
    expires_at TEXT,
    uses INTEGER NOT NULL,
    used INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    created_by TEXT,
    revoked_at TEXT,
    digest BLOB NOT NULL
);

CREATE TABLE join_uses (
    token_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    used_at TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (token_id, node_id, key_hash)
);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    expires_at TEXT,
    created_at TEXT NOT NULL,
    created_by TEXT,
    revoked_at TEXT,
    digest BLOB NOT NULL
);

CREATE TABLE audit_sources (
    source TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    digest BLOB NOT NULL
);

CREATE TABLE keyring (
    kind TEXT NOT NULL,
    key_id TEXT NOT NULL,
    public TEXT,
    announced_at TEXT NOT NULL,
    not_before TEXT,
    not_after TEXT,
    created_by TEXT,
    proof TEXT,
    hold INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (kind, key_id)
);

CREATE TABLE epochs (
    config_epoch TEXT PRIMARY KEY,
    old_epoch TEXT NOT NULL,
    issued_at TEXT NOT NULL,
    signature TEXT NOT NULL,
    key_id TEXT NOT NULL,
    digest BLOB NOT NULL
);

CREATE TABLE staged (
    service TEXT PRIMARY KEY,
    floor INTEGER NOT NULL,
    rollout TEXT,
    digest BLOB NOT NULL
);

CREATE TABLE staged_versions (
    service TEXT NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    values_json TEXT NOT NULL,
    config_json TEXT NOT NULL,
    checksum TEXT NOT NULL,
    issued_at TEXT NOT NULL,
    signature TEXT NOT NULL,
    key_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (service, role)
);

CREATE TABLE rollouts (
    service TEXT NOT NULL,
    id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    config_epoch TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    revert INTEGER NOT NULL,
    plan_json TEXT NOT NULL,
    salt TEXT NOT NULL,
    started_at TEXT NOT NULL,
    started_by TEXT,
    reason TEXT,
    step INTEGER NOT NULL,
    step_at TEXT NOT NULL,
    step_idx INTEGER NOT NULL,
    targets_json TEXT NOT NULL,
    paused TEXT,
    state TEXT NOT NULL,
    end_reason TEXT,
    ended_by TEXT,
    ended_at TEXT,
    digest BLOB NOT NULL,
    PRIMARY KEY (service, id)
);

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL,
    applied_index INTEGER NOT NULL,
    applied_term INTEGER NOT NULL,
    config_epoch TEXT NOT NULL,
    created_at TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    schema_updated_at TEXT NOT NULL,
    state_digest BLOB NOT NULL,
    items_digest BLOB NOT NULL,
    items_count INTEGER NOT NULL,
    digest BLOB NOT NULL
);
