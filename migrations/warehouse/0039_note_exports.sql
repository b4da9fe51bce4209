-- Up Migration
-- A history is exported as files: where, so that a key can be forgotten there, too.

create table tidemark.exports (
    export_id uuid not null,
    dimension_name text not null,
    host text not null,
    folder text not null,
    exported_by text not null,
    noted_at timestamptz not null,
    exported_at timestamptz,
    versions bigint,
    behind_since timestamptz,
    constraint exports_pkey primary key (export_id),
    constraint one_export_of_a_table_a_folder unique (dimension_name, host, folder)
);

comment on table tidemark.exports is 'Folders to which histories are exported as files (tidemark export --format parquet).';
comment on column tidemark.exports.export_id is 'Identity of the export, in its manifest too: so it is known where it is mounted elsewhere.';
comment on column tidemark.exports.dimension_name is 'The dimension.';
comment on column tidemark.exports.host is 'The machine on which it was exported last.';
comment on column tidemark.exports.folder is 'The folder there.';
comment on column tidemark.exports.exported_by is 'Who exported it last: the role of the session.';
comment on column tidemark.exports.noted_at is 'When it was first noted, before any file was written.';
comment on column tidemark.exports.exported_at is 'The moment of the snapshot that its files hold; null where none was finished.';
comment on column tidemark.exports.versions is 'How many versions these are.';
comment on column tidemark.exports.behind_since is
    'Since when a key is forgotten that its files may still hold; null: they do not, and nor does what was replaced in the folder.';
