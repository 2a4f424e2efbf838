-- Who may call the server. A secret has 256 random bits, so a plain SHA-256 of it cannot be guessed back; only that is kept.
create table tokens (
    id bigint generated always as identity,
    role text not null,
    hash bytea not null,
    -- for people: who or what holds it
    label text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    -- valid for a single use, such as a login link
    one_time boolean not null,
    -- last use, to the minute; of a one-time token the use itself
    used_at timestamptz,
    revoked_at timestamptz,
    constraint tokens_pkey primary key (id),
    constraint tokens_hash_unique unique (hash),
    constraint tokens_hash_size check (octet_length(hash) = 32),
    constraint tokens_role_known check (role in ('admin', 'submit', 'view', 'worker'))
);

-- A browser that logged in with a token. Its CSRF secret is derived from the session's, so nothing of it is kept.
create table sessions (
    hash bytea not null,
    -- revoking the token ends its sessions
    token_id bigint not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    constraint sessions_pkey primary key (hash),
    constraint sessions_token_fkey foreign key (token_id) references tokens (id) on delete cascade,
    constraint sessions_hash_size check (octet_length(hash) = 32)
);

create index sessions_token on sessions (token_id);

-- Who has been seen working. For display only: a lease hangs on its token, never on a row here.
create table workers (
    name text not null,
    device text not null,
    first_seen timestamptz not null default now(),
    last_seen timestamptz not null default now(),
    trial_id bigint,
    constraint workers_pkey primary key (name),
    constraint workers_trial_fkey foreign key (trial_id) references trials (id) on delete set null
);

create index workers_trial on workers (trial_id);
