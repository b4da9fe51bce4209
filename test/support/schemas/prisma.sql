-- The hard shapes of a Prisma application with its accounts: camelCase in quotes, times of milliseconds without zone, an enum, wide
-- decimals,
-- lists, tables with a unique index and no primary key, a join table that is one unique index. 10 tables to add.
create schema prisma;
set search_path = prisma;

create type "Role" as enum ('USER', 'ADMIN');

create table "User" (
    id text primary key,
    email text not null,
    name text,
    role "Role" not null default 'USER',
    "emailVerified" timestamp(3),
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp,
    "deletedAt" timestamp(3)
);
insert into "User" (id, email) values ('clh1', 'a@example.com'), ('clh2', 'b@example.com');

create table "Account" (
    id text primary key,
    "userId" text not null references "User",
    provider text not null,
    "providerAccountId" text not null,
    refresh_token text,
    expires_at int,
    unique (provider, "providerAccountId")
);
insert into "Account" values ('a1', 'clh1', 'github', '1', null, 1700000000), ('a2', 'clh2', 'github', '2', 'x', null);

create table "Session" (id text primary key, "sessionToken" text not null unique, "userId" text not null references "User",
    expires timestamp(3) not null);
insert into "Session" values ('s1', 't1', 'clh1', '2026-12-01'), ('s2', 't2', 'clh2', '2026-12-02 00:00:00.001');

create table "VerificationToken" (identifier text not null, token text not null, expires timestamp(3) not null, unique (identifier,
    token));
insert into "VerificationToken" values ('a@example.com', 'x', '2026-12-01'), ('b@example.com', 'y', '2026-12-01');

create table "Post" (
    id serial primary key,
    title text not null,
    tags text[],
    price decimal(65, 30) not null default 0,
    meta jsonb,
    "authorId" text references "User",
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null default current_timestamp
);
insert into "Post" (title, tags, price, meta)
    values ('One', '{a,"b c"}', 1.5, '{"k": 1}'), ('Two', null, 123456789012345678901234567890.000000000000000000000000000001, null);

create table "Category" (id serial primary key, name text not null);
insert into "Category" (name) values ('News'), ('Tech');

create table "_CategoryToPost" ("A" int not null references "Category", "B" int not null references "Post");
create unique index on "_CategoryToPost" ("A", "B");
insert into "_CategoryToPost" values (1, 1), (2, 1), (2, 2);

create table "_prisma_migrations" (
    id varchar(36) primary key,
    checksum varchar(64) not null,
    finished_at timestamptz,
    migration_name varchar(255) not null,
    logs text,
    rolled_back_at timestamptz,
    started_at timestamptz not null default now(),
    applied_steps_count int not null default 0
);
insert into "_prisma_migrations" (id, checksum, migration_name) values ('m1', 'c1', 'init'), ('m2', 'c2', 'next');

create table "Subscription" (
    id bigint generated always as identity primary key,
    "userId" text not null references "User",
    active boolean not null,
    "lastModified" timestamptz(3) not null default now()
);
insert into "Subscription" ("userId", active) values ('clh1', true), ('clh2', false);

create table "AuditLog" (id bigserial primary key, action text not null, payload jsonb,
    "createdAt" timestamp(3) not null default current_timestamp);
insert into "AuditLog" (action, payload) values ('login', '{"ip": "::1"}'), ('logout', null);
