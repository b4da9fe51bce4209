/** Ways to break one rule of section 5: in a function file, `from` is replaced by `to`, wherever it stands. */
export interface Mutation {
  readonly rule: string;
  readonly file: string;
  readonly edits: readonly (readonly [from: string, to: string])[];
}

const mutation = (rule: string, file: string, ...edits: Mutation['edits']): Mutation => ({ rule, file, edits });

export const MUTATIONS: readonly Mutation[] = [
  mutation('capture order: by extracted_at', '_slice_template', [
    'order by c.order_time, c.captured_at,',
    'order by c.captured_at desc,',
  ]),
  mutation('capture order: then by sequence', '_slice_template', ['c.sequence nulls last, ', '']),
  mutation('capture order: a batch without sequence comes after those of the chain', '_slice_template', [
    'c.sequence nulls last',
    'c.sequence nulls first',
  ]),
  mutation('capture order: then by batch_id', '_slice_template', ['c.batch_id collate "C", c.shard', 'c.shard']),
  mutation('capture order: then by line', '_slice_template', [
    'collate "C", c.change_line',
    'collate "C", -c.change_line',
  ]),
  mutation('capture order: lines, in one pass', '_apply_statement', [
    'order by c.captured_at, c.change_line)\n',
    'order by c.captured_at, -c.change_line)\n',
  ]),
  mutation('equal is absorbed', '_fold_step', ['v_is_equal := p_content = p_state.content;', 'v_is_equal := false;']),
  mutation('equal is absorbed, in one pass', '_apply_statement', ['else c.in_force and c.is_equal', 'else false']),
  mutation('equal to the change before is absorbed, in one pass', '_apply_statement', [
    'else c.equals_previous end',
    'else false end',
  ]),
  mutation('a change that stands alone in its batch meets the stored version', '_statement_fragments', [
    "' and ' order by e.ordinal)\n            filter (where e.is_tracked), 'true'",
    "' or ' order by e.ordinal)\n            filter (where e.is_tracked), 'true'",
  ]),
  mutation('keys with several changes are told from those with one', '_apply_statement', [
    'having count(*) > 1',
    'having count(*) > 2',
  ]),
  mutation('nulls are equal', '_fold_step', [
    'v_is_equal := p_content = p_state.content;',
    'v_is_equal := p_content = p_state.content and array_position(p_content, null) is null;',
  ]),
  mutation('a difference in any tracked column is one', '_fold_step', [
    'v_is_equal := p_content = p_state.content;',
    'v_is_equal := p_content[1] is not distinct from p_state.content[1];',
  ]),
  mutation('untracked columns take the last value', '_converge_fragments', [
    "case when e.is_untracked then 'desc' else 'asc' end",
    "'asc'",
  ]),
  mutation('untracked columns take the last value, in one pass', '_untracked_fragments', [
    ', last_value(c.%s)',
    ', first_value(c.%s)',
  ]),
  mutation('untracked columns of the stored version are overwritten, in one pass', '_untracked_fragments', [
    "format('row(%s) is distinct from row(%s)', v_parts ->> 'shown_as_text', v_parts ->> 'stored_as_text')",
    "'false'",
  ]),
  mutation('first values are kept aside', '_converge_statement', [
    "where c.verdict = 'opened' and not c.has_first_values and ({is_overwritten})",
    'where false',
  ]),
  mutation('first values are kept aside, in one pass', '_untracked_fragments', [
    '    on conflict do nothing\n',
    '    limit 0\n',
  ]),
  mutation('a column that a change does not have equals anything', '_fold_step', [
    ' or not coalesce(new.is_known, true)\n',
    '\n',
  ]),
  mutation('a column that a version does not have equals anything', '_fold_step', [
    'or not coalesce(old.is_known, true) or',
    'or',
  ]),
  mutation('a version without a column takes its first value', '_fold_step', [
    '            if p_state.is_known is not null then',
    '            if false then',
  ]),
  mutation('a version without a column shows the value it took', '_converge_fragments', [
    'b.key_values, e.is_known,',
    "b.key_values, 'true',",
  ]),
  mutation('a version without a column is recognised in a batch that comes in order', '_meets_incomplete_version', [
    'where not b.columns @> $2',
    'where false',
  ]),
  mutation('a batch without a column is recognised', '_fold_changes', [
    'and c.source_column <> all (p_batch.columns)',
    'and false',
  ]),
  mutation('an effective time is no time if it is infinite', '_takes_effect', [
    'when isfinite(p_effective)\n        and',
    'when',
  ]),
  mutation('an effective time is no time if it is later than its capture', '_takes_effect', [
    '        and p_effective <= p_captured\n',
    '',
  ]),
  mutation('an effective time must be later than the valid_from in force', '_takes_effect', [
    'p_effective > p_before or',
    'true or',
  ]),
  mutation('else it took effect at its capture', '_takes_effect', ['else greatest(p_captured, ', 'else coalesce(']),
  mutation('or a microsecond after the version in force', '_takes_effect', [
    "interval '1 microsecond'",
    "interval '2 microseconds'",
  ]),
  mutation('a life may begin at the end of the one before', '_takes_effect', [
    ' or (p_effective = p_before and not p_in_force)',
    '',
  ]),
  mutation('a life never begins before the end of the one before', '_apply_statement', [
    'coalesce(h.valid_to, h.valid_from){at_utc}',
    'h.valid_from{at_utc}',
  ]),
  mutation('DELETE ends the version in force', '_fold_step', [
    '            v_next.in_force := false;\n        else',
    '        else',
  ]),
  mutation('DELETE with none in force is absorbed', '_apply_statement', [
    "when 'DELETE' then not c.in_force",
    "when 'DELETE' then false",
  ]),
  mutation('an absorbed DELETE is remembered', '_slice_template', [
    'and {absorbed_since}',
    "and {absorbed_since} and a.reason <> 'nothing to delete'",
  ]),
  mutation('an absorbed repeat is remembered', '_slice_template', [
    'and {absorbed_since}',
    "and {absorbed_since} and a.reason <> 'unchanged'",
  ]),
  mutation('an absorbed change that opens a version is in one place', '_converge_statement', [
    "    using outcome as c\n    where c.origin = 'absorbed' and c.verdict = 'opened'",
    "    using outcome as c\n    where c.origin = 'absorbed' and false",
  ]),
  mutation('absorbed changes are judged again', '_converge_statement', [
    "    where c.origin = 'absorbed' and c.verdict <> 'opened'\n",
    '    where false\n',
  ]),
  mutation('a version that opens no more is absorbed', '_converge_statement', [
    "where l.origin <> 'absorbed' and l.verdict <> 'opened'",
    "where l.origin = 'new' and l.verdict <> 'opened'",
  ]),
  mutation('a life begins with INSERT', '_fold_step', ['true, not v_in_force, p_content', 'true, false, p_content']),
  mutation('a life begins with INSERT, in one pass', '_apply_statement', [
    "case when c.in_force then 'UPDATE' else 'INSERT' end",
    "'UPDATE'",
  ]),
  mutation('all changes of a key in a batch become versions', '_apply_statement', [
    'lead(c.takes_effect) over by_key as ends',
    'null::timestamptz as ends',
  ]),
  mutation('effective_time: that is the order', '_converge_fragments', [
    "case when b.is_by_time then b.own_time else 'c.captured_at' end",
    "'c.captured_at'",
  ]),
  mutation('effective_time: a time that cannot be right is that of its capture', '_converge_fragments', [
    "'case when isfinite(c.cdc_timestamp) and c.cdc_timestamp <= c.captured then c.cdc_timestamp else c.captured end'",
    "'c.cdc_timestamp'",
  ]),
  mutation('effective_time: of several at one time the last captured counts', '_converge_fragments', [
    "format('lead(c.order_time)",
    "format('lag(c.order_time)",
  ]),
  mutation('effective_time: the others are superseded', '_converge_fragments', [
    '        when b.is_by_time\n            then format(',
    '        when false\n            then format(',
  ]),
  mutation('effective_time: no batch is in order by its capture', '_fold_changes', [
    "and d.change_order = 'capture' ",
    '',
  ]),
  mutation('a late batch is recognised', '_in_order_since', [
    'select coalesce(max(',
    "select coalesce('-infinity', max(",
  ]),
  mutation('a late change of a batch that is not late is recognised', '_apply_statement', [
    '    where not exists (select from change as e where e.captured_at < $7)\n',
    '',
  ]),
  mutation('a change has its own capture time, in one pass', '_apply_statement', [
    'coalesce(c.extracted_at::timestamptz, $5)',
    'coalesce($5, c.extracted_at::timestamptz)',
  ]),
  mutation('a change has its own capture time', '_slice_template', [
    'coalesce(c.extracted_at::timestamptz, $5)',
    'coalesce($5, c.extracted_at::timestamptz)',
  ]),
  mutation('capture order: lines that do not rise are sorted, in one pass', '_apply_statement', [
    'order by c.captured_at, c.change_line)\n',
    'order by c.change_line)\n',
  ]),
  mutation('the ledger knows the latest capture time of a batch', 'apply_batch_parts', [
    'coalesce(v_result.greatest_captured_at, v_batch.extracted_at)',
    'v_batch.extracted_at',
  ]),
  mutation('of batches of one instant the greater sequence is later', '_in_order_since', [
    'coalesce(p_sequence, 9223372036854775807)',
    '9223372036854775807',
  ]),
  mutation('a shard looks at itself, and at the whole table', '_in_order_since', [
    'where s.shard = p_shard or tide',
    'where tide',
  ]),
  mutation('the whole table looks at every shard, and a shard at the whole table', '_in_order_since', [
    '_shard_layout(s.shard) <> tidemark',
    '_shard_layout(s.shard) = tidemark',
  ]),
  mutation('a version knows the batch of its shard', '_slice_template', [
    'b.batch_id = h.batch_id::text',
    'b.batch_id >= h.batch_id::text',
  ]),
  mutation('a slice begins before all that a batch may precede', '_converge_fragments', [
    "else 'h.captured_at < c.earliest' end",
    "else 'h.captured_at <= c.earliest' end",
  ]),
  mutation('a slice begins with a version as it is stored', '_slice_template', [
    'case when c.is_anchor then c.stored_from end',
    'null',
  ]),
  mutation('versions that move do not meet', '_converge_statement', [
    '    where (c.is_moved or c.is_shortened) and',
    '    where c.is_shortened and',
  ]),
  mutation(
    'a version that survives keeps its surrogate key',
    '_converge_statement',
    [
      "where c.origin = 'version' and c.verdict <> 'opened' and {key",
      "where c.origin = 'version' and not c.is_anchor and {key",
    ],
    ["where c.origin = 'version' and c.verdict = 'opened'\n", "where c.origin = 'version' and c.is_anchor\n"],
    [
      "where c.origin <> 'version' and c.verdict = 'opened'\n",
      "where (c.origin <> 'version' or not c.is_anchor) and c.verdict = 'opened'\n",
    ],
    ["and (c.verdict <> 'opened' or not ({is_overwritten}))", 'and not c.is_anchor'],
    ['coalesce(c.surrogate_key, o.surrogate_key)', 'coalesce(o.surrogate_key, c.surrogate_key)'],
    [
      'and not c.has_first_values and ({is_overwritten})',
      'and not (c.is_anchor and c.has_first_values) and ({is_overwritten})',
    ],
  ),
  mutation('a batch is applied once', '_is_already_applied', ['        return true;\n', '        return false;\n']),
  mutation('loaders queue', '_lock_dimension', [
    '        perform pg_advisory_xact_lock(v_dimension);\n',
    '        perform 1;\n',
  ]),
  mutation('a bad change stops no other', '_apply_changes', ['if v_split.bad is null then', 'if true then']),
  mutation('whether a change is good does not depend on what it meets', '_standing_condition', [
    "    '(%s or %s)',",
    "    '(false and (%s or %s))',",
  ]),
  mutation('a rejected change keeps its line', '_slice_template', [
    'coalesce(($6::integer[])[c.change_line], c.change_line::integer)',
    'c.change_line::integer',
  ]),
  mutation('a rejected change takes its right place', 'retry_rejected', [
    "v_changes, v_lines, 'infinity')",
    "v_changes, v_lines, '-infinity')",
  ]),
  mutation('pruning: what changed nothing goes only if something later says as much', 'prune_absorbed_changes', [
    "(a.reason = 'unchanged' and exists (\n                select\n                from tidemark.absorbed_changes",
    "(a.reason = 'unchanged' or exists (\n                select\n                from tidemark.absorbed_changes",
  ]),
  mutation('pruning: the later of two that changed nothing stays', 'prune_absorbed_changes', [
    'and n.captured_at > a.captured_at and',
    'and n.captured_at < a.captured_at and',
  ]),
  mutation('pruning: the version that makes it irrelevant is later', 'prune_absorbed_changes', [
    ' and h.captured_at > a.captured_at',
    '',
  ]),
  mutation('pruning: deletes stay', 'prune_absorbed_changes', [
    "a.reason = 'nothing to delete'\n",
    "a.reason <> 'unchanged'\n",
  ]),
  mutation('pruning: what was captured before it is refused', '_assert_not_pruned', [
    'if p_captured_at < v_before then',
    'if false then',
  ]),
  mutation('pruning: stops at a gap', '_settled_before', ['filter (where not w.is_behind_a_gap) ', '']),
  mutation('pruning: stops where a rejected change waits', '_settled_before', [
    'least(min(c.ends), (select w.begins from waiting as w))',
    'min(c.ends)',
  ]),
  mutation('pruning: never in the order of effective times', '_settled_before', [
    " and d.change_order = 'capture'",
    '',
  ]),
];
