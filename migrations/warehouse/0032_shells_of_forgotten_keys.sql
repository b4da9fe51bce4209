-- Up Migration
-- A forgotten key may leave its versions without values, and what is forgotten can be forgotten again after a backup was restored: the note
-- of a forgetting says what stands where the key stood, and up to when it was about.

drop function if exists tidemark.begin_forgetting (text, text [], text, text);
drop function if exists tidemark._key_as_change (text, text []);
drop function if exists tidemark._key_hash (text, text);
drop function if exists tidemark._places_of_key (text, text [], json);
drop function if exists tidemark.forget_in_batch (text, text [], text, json);
drop function if exists tidemark._assert_no_row_had_key (text, text [], text, json, integer []);
drop function if exists tidemark.forget_in_metadata (text, text [], text, json);
drop function if exists tidemark._is_place_of_key (text, text [], json);
drop function if exists tidemark.note_forgotten_content (bigint, text, text, text, integer);
drop function if exists tidemark.forget_key (bigint, text [], text);
drop function if exists tidemark._erase_key (text, text []);

alter table tidemark.forgettings
add column token text [],
add column keeps_shells boolean not null default false,
add column captured_until timestamptz;

comment on column tidemark.forgettings.token is 'What stands where the key stood, a value for each of its columns: random, and no copy of anything.';
comment on column tidemark.forgettings.keeps_shells is 'Whether its versions stay, with their times and no values (tidemark forget --keep-shells).';
comment on column tidemark.forgettings.captured_until is
    'Up to when changes of the table had been captured: those of the key until then were forgotten, and what came later is a new life.';
comment on column tidemark.forgettings.versions is 'How many versions were erased, or are shells since.';

update tidemark.forgettings as f
set captured_until = f.finished_at,
    token = array_fill('forgotten-' || left(replace(gen_random_uuid()::text, '-', ''), 16), array[(
        select greatest(count(*), 1)::integer
        from tidemark.dimension_columns as c
        where c.dimension_name = f.dimension_name and c.column_role = 'business key'
    )]);
-- squawk-ignore adding-not-nullable-field
alter table tidemark.forgettings alter column token set not null;

-- squawk-ignore require-concurrent-index-deletion
drop index tidemark.forgettings_unfinished_idx;
-- squawk-ignore require-concurrent-index-creation
create unique index forgettings_key_hash_idx on tidemark.forgettings (dimension_name, key_hash, begun_at);

create table tidemark.shell_keys (
    dimension_name text not null,
    business_key text not null,
    constraint shell_keys_pkey primary key (dimension_name, business_key)
);

comment on table tidemark.shell_keys is
    'Keys that stand for forgotten ones: their versions have times and no values, and each of their changes opens one, or ends one.';
comment on column tidemark.shell_keys.dimension_name is 'The dimension.';
comment on column tidemark.shell_keys.business_key is 'The token, printed as a key is in absorbed_changes: random, and no copy of anything.';
