create or replace function tidemark.batch_checksum(
    p_changes json
)
returns text
language sql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
-- The checksum of a batch: SHA-256, in hexadecimal, of its change lines as they stand in the file, which is the text
-- between the brackets of "changes" without the line break after the first one.
-- The brackets are cut off bytes, not text: PostgreSQL counts the characters of a whole text before it trims one.
-- In a shell: sed '1,/^"changes"/d;$d' changes_....json | sha256sum
select encode(sha256(ltrim(rtrim(ltrim(convert_to(p_changes::text, 'UTF8'), '['), ']'), '\x0d0a')), 'hex');
$$;
