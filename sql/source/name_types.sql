-- Types of columns ($1, json array of {"name", "type", "modifier"}, numbers as the log has them) as SQL names them, and an imprint of them:
-- both as sql/source/describe_table.sql has them for a poll. may_be_unreadable: the source takes any bytes, also such as are no valid
-- UTF-8.
select
    encode(sha256(convert_to(string_agg(format('%I %s', c.name, c.type), ', ' order by c.ordinal), 'UTF8')), 'hex')
        as columns_fingerprint,
    json_object_agg(c.name, c.type order by c.ordinal) as column_types,
    current_setting('server_encoding') = 'SQL_ASCII' as may_be_unreadable
from (
    select m.name, format_type(m.type, m.modifier) as type, m.ordinal
    from rows from (json_to_recordset($1::text::json) as (name text, type oid, modifier integer))
        with ordinality as m (name, type, modifier, ordinal)
) as c;
