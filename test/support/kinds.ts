/** What a column may hold: a type, and values that are easily spoilt on the way. */
export type Kind = readonly [type: string, ...values: string[]];

/** Types that a test must make at both ends before it uses them. */
export const OWN_TYPES = String.raw`create type mood as enum ('so, "so"', 'it''s', 'back\slash'); create type spot as (x numeric, y text)`;

/** Types of columns with their nasty values, as SQL; no two values of a kind print alike. */
export const NASTY_KINDS: readonly Kind[] = [
  ['numeric', "'NaN'", "'Infinity'", "'-Infinity'", '1e-30', '-0.00', '1e30'], ['numeric(20,10)', "'NaN'", '0.0000000001', '-0'],
  ['double precision', "'NaN'", "'-Infinity'", '5e-324', '1.7976931348623157e308', "'-0'", '0.1'], ['real', "'NaN'", '1e-45', '3.4028235e38', "'-0'", '0.1'],
  ['date', "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"], ['timestamptz', "'0001-12-31 23:59:59.999999+00 BC'", "'infinity'", "'2026-02-01 09:00:00.1+05:30'"],
  ['timestamp', "'0044-03-15 12:00 BC'", "'-infinity'"], ['time', "'24:00'", "'00:00:00.000001'"], ['timetz', "'24:00:00-15:59'", "'12:34:56.789+05:30'"],
  ['interval', "'-1 year -2 mons +3 days -04:05:06.789'", "'0'", "'-00:00:00.000001'", "'1 mon -1 day'"],
  ['text', "''", "' '", String.raw`E'\t\n\r\f\b\x1f\x7f'`, String.raw`E'"quotes" ''single'' \\ back\\\\slash \\u0041 \\n'`, "'{a},(b),[c],NULL,null'", "U&'\\+01F600\\200D\\0301\\FFFE'"],
  ['varchar(3)', "''", "'a  '"], ['char(3)', "''", "'a'"], ['jsonb', String.raw`'{"\u00e9": "\u0041\n\"\\", "": [null, 1.50, 1e400]}'`, "'null'", `'"\\ud83d\\ude00"'`],
  ['json', String.raw`'{"a" : "\u0041\u00e9",  "a":1.0e0 , "b":[ ]}'`, `'"\\u2028"'`, `'"\\u0000"'`, `'"\\ud800"'`], ['bytea', "''", String.raw`'\x00ff5c22'`, String.raw`'\\\\''a'`], ['uuid', "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
  ['inet', "'::ffff:10.0.0.1'", "'10.1.2.3/8'"], ['cidr', "'2001:db8::/32'"], ['macaddr', "'08:00:2b:01:02:03'"], ['bit(5)', "B'10101'"], ['bit varying', "B''", "B'1'"],
  ['numrange', "'empty'", "'(,)'", "'[-0.0,1.50)'"], ['tstzrange', "'[-infinity,infinity]'", `'["2026-01-01 00:00+00",)'`], ['daterange', "'(2026-01-01,2026-02-01]'"],
  ['int4multirange', "'{}'", "'{[1,3),[5,9)}'"], ['datemultirange', "'{(,2026-01-01),[2026-02-01,)}'"],
  ['text[]', "'{}'", String.raw`array[null, 'NULL', 'null', '', ' ', 'a,b', '"', '\', '{}', E'\n']`, "'[0:1]={a,b}'", "'{{a,b},{c,NULL}}'"], ['numeric[]', "'{NaN,1.0,1.00,NULL}'"], ['timestamptz[]', "'{infinity,2026-01-01 00:00+00}'"], ['jsonb[]', `array['{"a,b": "c\\"d"}', null]::jsonb[]`],
  ['mood', `'so, "so"'`, "'it''s'", String.raw`'back\slash'`], ['mood[]', `array['so, "so"', null, 'it''s']::mood[]`], ['spot', "row(null, null)", String.raw`row(1.50, E'a,"b"\n(c)\\')`, "row(null, '')"], ['spot[]', "array[row(1, 'a,b')::spot, null]"],
  ['tsvector', `'''it''''s'':1A "quo\\te":2'`], ['point', "'(1e-30,-0)'"], ['money', "'-1234567.89'"], ['pg_lsn', "'FFFFFFFF/0'"],
];

/** Types that a key may be of, first a plain value, then nasty ones. No two values of a kind are one key. */
export const KEY_KINDS: readonly Kind[] = [
  ['smallint', '1', '-32768'], ['integer', '1', '0'], ['bigint', '1', '9223372036854775807', '-9223372036854775808'],
  ['numeric', '1', '1.10', '-0.5', "'NaN'", '1e30', '1e-30', "'-Infinity'"], ['numeric(12,2)', '1', '0.01', "'NaN'"], ['real', '1', '0.1', "'-0'", "'NaN'", '3.4028235e38'],
  ['double precision', '1', '0.1', '0.10000000000000002', "'-0'", "'Infinity'", "'NaN'"], ['boolean', 'true', 'false'],
  ['text', "'a'", "''", "' a '", "'A'", "'NULL'", String.raw`E'"q" ''s'' \\ \n\t,{}()[]%s$1'`, "U&'\\00E9'", "U&'e\\0301'", "U&'\\+01F600'"],
  ['varchar(8)', "'a'", "'a  '"], ['char(4)', "'a'", "''", "' a'"], ['name', "'a'", "'B'"], ['"char"', "'a'", "'b'"],
  ['uuid', "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"], ['date', "'2026-02-01'", "'infinity'", "'4713-01-01 BC'"],
  ['timestamp', "'2026-02-01 09:00'", "'2026-02-01 09:00:00.000001'", "'-infinity'"], ['timestamptz', "'2026-02-01 09:00+00'", "'0001-12-31 23:59:59.999999+00 BC'", "'infinity'"],
  ['time', "'09:00'", "'24:00'"], ['timetz', "'09:00+00'", "'10:00+01'"], ['bytea', String.raw`'\x01'`, "''", String.raw`'\x00ff5c22'`], ['bit(3)', "B'101'", "B'000'"], ['varbit', "B'1'", "B''"],
  ['inet', "'10.0.0.1'", "'10.0.0.1/8'", "'::1'"], ['cidr', "'10.0.0.0/8'", "'::/0'"], ['macaddr', "'08:00:2b:01:02:03'", "'00:00:00:00:00:00'"], ['mood', "'it''s'", `'so, "so"'`, String.raw`'back\slash'`],
  ['int4range', "'[1,3)'", "'empty'", "'(,)'"], ['text[]', "'{a}'", "'{}'", String.raw`array['NULL', null, 'a,"b"\']`], ['integer[]', "'{1}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'"], ['pg_lsn', "'0/1'", "'FFFFFFFF/0'"],
];
