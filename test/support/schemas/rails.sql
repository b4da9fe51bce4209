-- The hard shapes of a Rails application: times without zone, some of them null, soft deletes, a join table without a key, tables that
-- are
-- only ever added to, a table whose one column is its key, an epoch number for a time, an updated_on that is a date, names that are
-- reserved words. 13 tables to add.
create schema rails;
set search_path = rails;

create table schema_migrations (version varchar primary key);
insert into schema_migrations values ('20260101000000'), ('20260102000000');

create table ar_internal_metadata (key varchar primary key, value varchar, created_at timestamp(6) not null,
    updated_at timestamp(6) not null);
insert into ar_internal_metadata
    values ('environment', 'production', '2026-01-01', '2026-01-01'), ('schema_sha1', null, '2026-01-01', '2026-01-01');

create table users (
    id bigserial primary key,
    name varchar,
    email varchar not null default '',
    settings jsonb not null default '{}',
    current_sign_in_ip inet,
    bit_prefs bigint not null default 0,
    created_at timestamp not null default now(),
    updated_at timestamp,
    deleted_at timestamp
);
insert into users (name, email, settings, current_sign_in_ip, updated_at)
values ('never updated', 'a@example.com', '{"a": 1.0, "b": [null, "x"]}', '10.0.0.1', null),
    ('bob', 'b@example.com', '{}', '::1/64', now()), ('carol', 'c@example.com', '{}', null, now());
insert into users (name, email, updated_at, deleted_at) values ('gone', 'd@example.com', now(), now());

create table roles (id bigserial primary key, name varchar not null, created_at timestamptz not null default now());
insert into roles (name) values ('admin'), ('editor');

create table roles_users (role_id bigint not null, user_id bigint not null);
insert into roles_users values (1, 1), (2, 1), (2, 2);

create table posts (
    id uuid primary key default gen_random_uuid(),
    user_id bigint not null,
    title varchar(255),
    body text,
    "order" int,
    "group" varchar,
    published_at timestamp,
    discarded_at timestamp(6),
    lock_version int not null default 0,
    created_at timestamp(6) not null default now(),
    updated_at timestamp(6) not null default now()
);
insert into posts (user_id, title, body, "order") values (1, 'Hello', repeat('long ', 2000), 1), (2, null, '', null);

create table comments (
    id bigserial primary key,
    post_id uuid,
    body text,
    is_deleted boolean not null default false,
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
insert into comments (body, is_deleted) values ('first', false), ('spam', true), (null, false);

create table active_storage_blobs (
    id bigserial primary key,
    key varchar not null unique,
    filename varchar not null,
    metadata text,
    byte_size bigint not null,
    created_at timestamp(6) not null default now()
);
insert into active_storage_blobs (key, filename, byte_size) values ('k1', 'a.png', 9223372036854775807), ('k2', 'b.png', 0);

create table delayed_jobs (
    id bigserial primary key,
    priority int not null default 0,
    handler text not null,
    run_at timestamp,
    locked_at timestamp,
    failed_at timestamp,
    created_at timestamp,
    updated_at timestamp
);
insert into delayed_jobs (handler, updated_at) values ('--- !ruby/object', null), ('x', now());

create table events (id bigserial primary key, kind varchar not null, payload json, updated_at bigint not null default 0);
insert into events (kind, payload) values ('click', '{"x":  1}'), ('view', null);

create table prices (
    id bigserial primary key,
    amount numeric not null,
    ratio double precision,
    took interval,
    updated_on date not null default current_date
);
insert into prices (amount, ratio, took) values (1.10, 1e-320, '1 mon -1 day 00:00:01'), ('NaN', '-Infinity', null);

create table rls (id int primary key, v text, updated_at timestamptz not null default now());
insert into rls (id, v) values (1, 'a'), (2, 'b');

create table data (id int primary key, values text, valid_from date, is_current boolean, surrogate_key int, operation text,
    updated_at timestamptz not null default now());
insert into data (id, values, valid_from, is_current, surrogate_key, operation)
    values (1, 'a', '2026-01-01', true, 7, 'x'), (2, null, null, null, null, null);
