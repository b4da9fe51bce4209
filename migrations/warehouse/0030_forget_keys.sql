-- Up Migration
-- A key is forgotten: its values go from history, from the changes that are kept, and from batch files. What each batch holds since, and a
-- note of it that says who and when, and no value.

alter table tidemark.batches add column forgotten_changes integer;
comment on column tidemark.batches.forgotten_changes is
    'How many of its changes are in no place any more, because their key was forgotten (tidemark forget); null where none.';

create table tidemark.forgotten_contents (
    dimension_name text not null,
    shard text not null,
    batch_id text not null,
    content_checksum text not null,
    forgotten_lines integer not null,
    constraint forgotten_contents_pkey primary key (dimension_name, shard, batch_id)
);

comment on table tidemark.forgotten_contents is
    'What batches hold since a key was forgotten, applied or not: a file of that name with other content is loaded and replayed no more.';
comment on column tidemark.forgotten_contents.dimension_name is 'The dimension.';
comment on column tidemark.forgotten_contents.shard is 'Shard of the batch.';
comment on column tidemark.forgotten_contents.batch_id is 'The batch. Its checksum in the ledger stays that of what was captured, the link of the chain.';
comment on column tidemark.forgotten_contents.content_checksum is 'SHA-256 of the change lines that are left.';
comment on column tidemark.forgotten_contents.forgotten_lines is 'How many lines it has lost.';

create table tidemark.forgettings (
    forgetting_id bigint generated always as identity,
    dimension_name text not null,
    reference text not null,
    forgotten_by text not null,
    begun_at timestamptz not null,
    finished_at timestamptz,
    key_hash text not null,
    files jsonb not null default '{}',
    versions integer not null default 0,
    absorbed_changes integer not null default 0,
    rejected_changes integer not null default 0,
    retracted_changes integer not null default 0,
    first_values integer not null default 0,
    constraint forgettings_pkey primary key (forgetting_id),
    constraint a_forgetting_has_a_reference check (reference ~ '^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,99}$')
);

create unique index forgettings_unfinished_idx on tidemark.forgettings (dimension_name, key_hash) where finished_at is null;

comment on table tidemark.forgettings is 'Each time that a key was forgotten: no value of it, nor the key.';
comment on column tidemark.forgettings.forgetting_id is 'Number of the row.';
comment on column tidemark.forgettings.dimension_name is 'The dimension.';
comment on column tidemark.forgettings.reference is 'The ticket that asked for it, by its name: no free text.';
comment on column tidemark.forgettings.forgotten_by is 'Who did: the role of the session.';
comment on column tidemark.forgettings.begun_at is 'When it began.';
comment on column tidemark.forgettings.finished_at is 'When all was erased; null where it was cut off and must be run again.';
comment on column tidemark.forgettings.key_hash is
    'HMAC-SHA-256 of the key, with tidemark.forgetting_secret: who has the key and the secret can tell that it is this one.';
comment on column tidemark.forgettings.files is 'Batches whose files were written anew, each with the number of lines it has lost in all.';
comment on column tidemark.forgettings.versions is 'How many versions were erased.';
comment on column tidemark.forgettings.absorbed_changes is 'How many absorbed changes were.';
comment on column tidemark.forgettings.rejected_changes is 'How many rejected changes were.';
comment on column tidemark.forgettings.retracted_changes is 'How many retracted changes were.';
comment on column tidemark.forgettings.first_values is 'Of how many versions first values were.';

create table tidemark.forgetting_secret (
    is_only_row boolean not null default true,
    secret bytea not null,
    constraint forgetting_secret_pkey primary key (is_only_row),
    constraint forgetting_secret_has_one_row check (is_only_row),
    constraint secret_fills_a_block check (octet_length(secret) = 64)
);

comment on table tidemark.forgetting_secret is 'The secret of this warehouse that hashes of forgotten keys are made with. For its owner alone.';
comment on column tidemark.forgetting_secret.is_only_row is 'Always true.';
comment on column tidemark.forgetting_secret.secret is '64 random bytes.';

revoke all on tidemark.forgetting_secret from public;
insert into tidemark.forgetting_secret (secret)
select uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
