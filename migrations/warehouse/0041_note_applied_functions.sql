-- Up Migration
-- Which files the functions of the warehouse were made from, so that "migrate" makes none anew that is as it was.

create table tidemark.applied_functions (
    files text not null,
    state text not null
);

comment on table tidemark.applied_functions is 'The function files that "tidemark migrate" applied last: one row.';
comment on column tidemark.applied_functions.files is 'SHA-256 of the files, one after the other.';
comment on column tidemark.applied_functions.state is
    'MD5 of what the catalog had of the functions afterwards: where that is another by now, the files are applied again.';

-- These are handed the lists of the dimension by now.
drop function if exists tidemark._compiled_bodies (text);
drop function if exists tidemark._create_time_travel (text);
drop function if exists tidemark._time_travel_functions (text);
drop function if exists tidemark._time_travel_parts (text, regtype);
