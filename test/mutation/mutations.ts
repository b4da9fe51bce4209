/** Ways to break one rule of histories: in a function, `from` is replaced by `to`, wherever it stands. Those that write history functions are among them. */
export interface Mutation {
  readonly rule: string;
  readonly name: string;
  readonly edits: readonly (readonly [from: string, to: string])[];
}

const mutation = (rule: string, name: string, ...edits: Mutation['edits']): Mutation => ({ rule, name, edits });

export const MUTATIONS: readonly Mutation[] = [
  mutation('capture order: by extracted_at', '_converge_body', [
    'c._captured_at, c._sequence nulls',
    'c._captured_at desc, c._sequence nulls',
  ]),
  mutation('capture order: then by sequence', '_converge_body', ['c._sequence nulls last, ', '']),
  mutation('capture order: a batch without sequence comes after those of the chain', '_converge_body', [
    'c._sequence nulls last',
    'c._sequence nulls first',
  ]),
  mutation('capture order: then by batch_id', '_converge_body', ['c._batch_id collate "C", c._shard', 'c._shard']),
  mutation('capture order: then by line', '_converge_body', ['collate "C", c._line', 'collate "C", -c._line']),
  mutation('capture order: lines, in one pass', '_apply_body', [
    'order by c._captured_at, c._line)\n    ),',
    'order by c._captured_at, -c._line)\n    ),',
  ]),
  mutation('equal is absorbed', '_fold_step', ['v_is_equal := p_content = p_state.content;', 'v_is_equal := false;']),
  mutation('equal is absorbed, in one pass', '_apply_body', ['else c._in_force and c._is_equal', 'else false']),
  mutation('equal to the change before is absorbed, in one pass', '_apply_body', [
    'else c._equals_before end',
    'else false end',
  ]),
  mutation('a change that stands alone in its batch meets the stored version', '_apply_body', [
    '{equals_stored: and}',
    '({equals_stored: or})',
  ]),
  mutation('the last key that there is has versions', '_apply_body', [' {key_values} <= (', ' {key_values} < (']),
  mutation('the last key that there is is no new one', '_apply_body', [
    '(min({key_values}) <= (',
    '(min({key_values}) < (',
  ]),
  mutation('new keys that come twice in a batch are folded', '_apply_body', [
    ' and not exists (select from repeated)',
    '',
  ]),
  mutation('a delete of a new key finds nothing to delete', '_apply_body', [
    "bool_and(c._operation <> 'DELETE') and",
    'true and',
  ]),
  mutation('keys with several changes are told from those with one', '_apply_body', [
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
  mutation('untracked columns take the last value', '_last_known_step', [
    'select case',
    'select case when p_state is not null then p_state',
  ]),
  mutation('untracked columns take the last value, in one pass', '_column_lists', [
    "'last_value(c.%s)",
    "'first_value(c.%s)",
  ]),
  mutation('untracked columns of the stored version are overwritten, in one pass', '_apply_body', [
    '({overwrites_stored: or})',
    'false',
  ]),
  mutation('first values are kept aside', '_converge_body', [
    "where c._verdict = 'opened' and not c._has_first_values and ({overwrites_own: or})",
    'where false',
  ]),
  mutation('first values are kept aside, in one pass', '_apply_body', [' on conflict do nothing\n', ' limit 0\n']),
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
  mutation('a version without a column shows the value it took', '_column_lists', [
    "'case when %1$L = any (c.%2$sfills) then",
    "'case when false and %1$L = any (c.%2$sfills) then",
  ]),
  mutation('an untracked column shows what the last change said that had it', '_column_lists', [
    'and (%3$s) is not true',
    'and (true or (%3$s) is not true)',
  ]),
  mutation('a version without a column is recognised in a batch that comes in order', '_apply_body', [
    'where not b.columns @> {apply}.p_missing',
    'where false',
  ]),
  mutation('a batch without a column is recognised', '_fold_changes', [' and v_dimension.is_complete then', ' then']),
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
  mutation('a life never begins before the end of the one before', '_apply_body', [
    'coalesce(h.valid_to, h.valid_from){at_utc}',
    'h.valid_from{at_utc}',
  ]),
  mutation('DELETE ends the version in force', '_fold_step', [
    '            v_next.in_force := false;\n        else',
    '        else',
  ]),
  mutation('DELETE with none in force is absorbed', '_apply_body', [
    "when 'DELETE' then not c._in_force",
    "when 'DELETE' then false",
  ]),
  mutation('an absorbed DELETE is remembered', '_converge_body', [
    'a.business_key = c._business_key',
    "a.business_key = c._business_key and a.reason <> 'nothing to delete'",
  ]),
  mutation('an absorbed repeat is remembered', '_converge_body', [
    'a.business_key = c._business_key',
    "a.business_key = c._business_key and a.reason <> 'unchanged'",
  ]),
  mutation('an absorbed change that opens a version is in one place', '_converge_body', [
    "where c._origin = 'absorbed' and c._verdict = 'opened'",
    "where c._origin = 'absorbed' and false",
  ]),
  mutation('absorbed changes are judged again', '_converge_body', [
    "where c._origin = 'absorbed' and c._verdict <> 'opened'\n",
    'where false\n',
  ]),
  mutation('a version that opens no more is absorbed', '_converge_body', [
    "where c._origin <> 'absorbed' and c._verdict <> 'opened'",
    "where c._origin = 'new' and c._verdict <> 'opened'",
  ]),
  mutation('a life begins with INSERT', '_fold_step', ['true, not v_in_force, p_content', 'true, false, p_content']),
  mutation('a life begins with INSERT, in one pass', '_apply_body', [
    "case when c._in_force then 'UPDATE' else 'INSERT' end",
    "'UPDATE'",
  ]),
  mutation('all changes of a key in a batch become versions', '_apply_body', [
    'lead(c._takes_effect) over by_key as _ends',
    'null::timestamptz as _ends',
  ]),
  mutation('effective_time: that is the order', '_converge_body', [
    'order by c._own_time, c._captured_at',
    'order by c._captured_at',
  ]),
  mutation('effective_time: a time that cannot be right is that of its capture', '_column_lists', [
    "'case when isfinite(c.%1$seffective) and c.%1$seffective <= %2$s then c.%1$seffective else %2$s end'",
    "'c.%1$seffective'",
  ]),
  mutation('effective_time: of several at one time the last captured counts', '_converge_body', [
    'lead(c._own_time)',
    'lag(c._own_time)',
  ]),
  mutation('effective_time: the others are superseded', '_converge_body', [
    'is not distinct from c._own_time as',
    'is not distinct from c._own_time and false as',
  ]),
  mutation('effective_time: no batch is in order by its capture', '_fold_changes', [
    " and v_dimension.change_order = 'capture'",
    '',
  ]),
  mutation('a late batch is recognised', '_in_order_since', [
    'select coalesce(max(',
    "select coalesce('-infinity', max(",
  ]),
  mutation('a late change of a batch that is not late is recognised', '_apply_body', [
    '        having coalesce(min(c._captured_at) >= {apply}.p_in_order_since, true)\n',
    '',
  ]),
  mutation('a change has its own capture time, in one pass', '_apply_body', [
    'coalesce(c._extracted_at::timestamptz, p_batch.extracted_at)',
    'coalesce(p_batch.extracted_at, c._extracted_at::timestamptz)',
  ]),
  mutation('a change has its own capture time', '_converge_body', [
    'coalesce(c._extracted_at::timestamptz, p_batch.extracted_at)',
    'coalesce(p_batch.extracted_at, c._extracted_at::timestamptz)',
  ]),
  mutation('capture order: lines that do not rise are sorted, in one pass', '_apply_body', [
    'order by c._captured_at, c._line)\n    ),',
    'order by c._line)\n    ),',
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
  mutation('a version knows the batch of its shard', '_converge_body', [
    'b.batch_id = h.batch_id::text',
    'b.batch_id >= h.batch_id::text',
  ]),
  mutation('a slice begins before all that a batch may precede', '_converge_body', [
    'h.captured_at < c._earliest',
    'h.captured_at <= c._earliest',
  ]),
  mutation('a slice begins with a version as it is stored', '_converge_body', [
    'case when c._is_anchor then c._stored_from end',
    'null',
  ]),
  mutation('split: a change differs from the version before', '_converge_body', ['v._is_equal is not true', 'true']),
  mutation('split: and from the one after', '_converge_body', ['n._is_equal is not true', 'true']),
  mutation('split: it takes effect before the one after', '_converge_body', [
    'coalesce(t._takes_effect < n._begins, true)',
    'true',
  ]),
  mutation('split: it is captured before the one after', '_converge_body', [
    'coalesce(c._captured_at < n._captured_at, true)',
    'true',
  ]),
  mutation('split: nothing lies between the version before and the one after', '_converge_body', [
    'v._ends is not distinct from n._begins',
    'true',
  ]),
  mutation('split: nothing in between was absorbed', '_converge_body', [
    'a.business_key = k._business_key\n',
    'a.business_key = k._business_key and false\n',
  ]),
  mutation('split: a DELETE opens no version', '_converge_body', [
    "p_batch.retracted_at is null and c._operation <> 'DELETE'",
    'p_batch.retracted_at is null',
  ]),
  mutation('split: its batch has every column', '_converge_body', [
    '(p_batch.columns @> {converge}.p_missing) is not false',
    'true',
  ]),
  mutation('split: so have those of the versions', '_converge_body', [
    'cardinality({converge}.p_missing) = 0 or',
    'true or',
  ]),
  mutation('split: a change is the only one of its key', '_converge_body', [
    'case count(*) when 1 then min(c._line) end',
    'min(c._line)',
  ]),
  mutation('versions that move do not meet', '_converge_body', [
    'where (c._is_moved or c._is_shortened) and',
    'where c._is_shortened and',
  ]),
  mutation(
    'a version that survives keeps its surrogate key',
    '_converge_body',
    ['c._version_operation, c._is_followed\n', 'c._version_operation, c._is_followed, c._is_anchor\n'],
    ["'UPDATE' end, c._ends is not null\n", "'UPDATE' end, c._ends is not null, false\n"],
    ['c._takes_effect, h.cdc_operation, true\n', 'c._takes_effect, h.cdc_operation, true, true\n'],
    ["where c._origin = 'version' and c._verdict <> 'opened'\n", "where c._origin = 'version' and not c._is_anchor\n"],
    ["where c._origin = 'version' and c._verdict = 'opened'\n", "where c._origin = 'version' and c._is_anchor\n"],
    [
      "where c._origin <> 'version' and c._verdict = 'opened' and c._surrogate_key is null\n",
      "where c._verdict = 'opened' and (c._surrogate_key is null or c._origin = 'version' and not c._is_anchor)\n",
    ],
    ["and (c._verdict <> 'opened' or not ({overwrites_own: or}))", 'and not c._is_anchor'],
    ['coalesce(c._surrogate_key, o._surrogate_key)', 'coalesce(o._surrogate_key, c._surrogate_key)'],
    [
      'and not c._has_first_values and ({overwrites_own: or})',
      'and not (c._is_anchor and c._has_first_values) and ({overwrites_own: or})',
    ],
  ),
  mutation('a batch is applied once', '_is_already_applied', ['        return true;\n', '        return false;\n']),
  mutation('loaders queue', '_lock_dimension', [
    '        perform pg_advisory_xact_lock(v_dimension);\n',
    '        perform 1;\n',
  ]),
  mutation('a bad change stops no other', '_apply_changes', ['if v_split.bad is null then', 'if true then']),
  mutation('whether a change is good does not depend on what it meets', '_column_lists', [
    "'cannot_stand', s.items",
    "'cannot_stand', '[]'::jsonb",
  ]),
  mutation('a rejected change keeps its line', '_converge_body', [
    'coalesce({converge}.p_lines[c._line], c._line::integer)',
    'c._line::integer',
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
    "(a.reason = 'nothing to delete' and not b.is_logged)\n",
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
  mutation('diff: a version in force at both moments is no difference', '_diff_text', [' and h.valid_to <= {to}', '']),
  mutation('diff: after the second moment nothing counts', '_diff_text', [
    '\n        and (h.valid_to > {to} or h.valid_to is null)',
    '',
  ]),
  mutation('diff: the first moment itself belongs to before', '_diff_text', [
    'h.valid_from > {from}',
    'h.valid_from >= {from}',
  ]),
  mutation('diff: what is as it was is none', '_diff_text', ["is distinct from '{}'", 'is distinct from null']),
  mutation('changes: only a version without a gap before it continues a life', '_changes_text', [
    ' and _before.valid_to = _after.valid_from',
    ' and _before.valid_to <= _after.valid_from',
  ]),
  mutation('changes: what happens at the second moment is among them', '_changes_text', [
    '_before.valid_to <= {to}',
    '_before.valid_to < {to}',
  ]),
  mutation('changes: a version that another one follows ends no life', '_changes_text', [
    ' and _after.valid_from is null',
    '',
  ]),
];

/** Ways to break what is told of a moment of the past. */
export const KNOWN_MUTATIONS: readonly Mutation[] = [
  mutation('known: what was applied later does not count', '_known_body', [
    "where coalesce(n.known_at, c._applied_at, '-infinity') <=",
    "where '-infinity' <=",
  ]),
  mutation('known: a key with a change that was applied later is folded', '_known_body', [
    'where coalesce(n.known_at, b.applied_at) > {known_function}.p_known or exists',
    'where exists',
  ]),
  mutation('known: so is one with a change that was tried again later', '_known_body', [
    'where coalesce(n.known_at, b.applied_at) >',
    'where b.applied_at >',
  ]),
  mutation('known: so is one with an absorbed change that was applied later', '_known_body', [
    'where a.dimension_name = {dimension} and a.business_key = json_build_object({printed_key})::text\n        ) as k',
    'where false\n        ) as k',
  ]),
  mutation('known: what was tried again counts since then', '_known_body', [
    'coalesce(n.known_at, c._applied_at',
    'coalesce(c._applied_at, n.known_at',
  ]),
  mutation('known: a retry is noted', 'retry_rejected', ['        on conflict do nothing;\n', '        limit 0;\n']),
  mutation('known: absorbed changes count', '_known_body', [
    'a.business_key = c._business_key\n',
    'a.business_key = c._business_key and false\n',
  ]),
  mutation('known: capture order', '_known_body', [
    'c._captured_at, c._sequence nulls last',
    'c._sequence, c._captured_at',
  ]),
  mutation('known: of several at one time the last captured counts', '_known_body', [
    'lead(c._own_time)',
    'lag(c._own_time)',
  ]),
  mutation('known: effective_time is the order', '_known_body', [
    'order by c._own_time, c._captured_at',
    'order by c._captured_at',
  ]),
  mutation('known: a version without a column took its first value', '_known_body', [
    "case when c._verdict = 'opened' then c._lacks end as _fills",
    'null::text[] as _fills',
  ]),
  mutation('known: a column that its batch did not have is not known', '_known_body', [
    'case when c._lacks is not null then array[{known}] end',
    'null::boolean[]',
  ]),
  mutation('known: a life begins with INSERT', '_known_body', [
    "then 'INSERT' else 'UPDATE'",
    "then 'UPDATE' else 'UPDATE'",
  ]),
  mutation('known: the newest version from before the last pruning stands as it is stored', '_known_body', [
    'h.captured_at < d.pruned_before',
    "h.captured_at < d.pruned_before - interval '1 year'",
  ]),
  mutation('known: its beginning does, too', '_known_body', ['case when c._is_anchor then c._stored_from end', 'null']),
  mutation('known: and all versions before it', '_known_body', [
    'and h.valid_from < c._anchor_from',
    'and h.valid_from < c._anchor_from and false',
  ]),
  mutation('known: what was known before that is refused', '_assert_known', [
    'if p_known < v_since then',
    'if false then',
  ]),
  mutation('known: pruning notes when all of that time was known', '_all_known_at', [
    'max(b.applied_at)',
    'min(b.applied_at)',
  ]),
  mutation('known: retries among them', '_all_known_at', ['select max(n.known_at)', 'select null::timestamptz']),
  mutation('known: keys that have no versions any more', '_as_known_text', [
    'where f.dimension_name = {dimension} and not',
    'where false and not',
  ]),
  mutation('known: what is taken out does not count', '_known_body', [
    't.restored_at is null)\n            )\n    ),',
    't.restored_at is null)\n                    and false\n            )\n    ),',
  ]),
  mutation('known: what is taken out did count before', '_known_body', [
    'r.business_key = c._business_key and r.rejected is null',
    'r.business_key = c._business_key and false',
  ]),
  mutation('known: what was taken out and came back was out meanwhile', '_known_body', [
    'and t.restored_at > {known_function}.p_known\n        )\n        union',
    'and false\n        )\n        union',
  ]),
  mutation('known: keys that lose their versions with a batch are noted', '_retract_changes', [
    'and r.surrogate_key is not null\n',
    'and false\n',
  ]),
  mutation('known: such keys are noted', '_converge_body', [
    "where c._origin = 'version' and c._verdict <> 'opened'\n            and not exists",
    'where false\n            and not exists',
  ]),
  mutation('known: what a rebuild applies of what was rejected is known since then', '_adopt_replayed_ledger', [
    '    on conflict do nothing;\n',
    '    limit 0;\n',
  ]),
  mutation('known: what a rebuild finds is known since then', '_adopt_replayed_ledger', [
    'set applied_at = v_known_at where',
    "set applied_at = v_known_at - interval '1 hour' where",
  ]),
  mutation('known: a rebuild notes keys that lose their versions', 'adopt_replay', [
    'where not exists (select from {history} as h where {same_key: and}) on conflict',
    'where false on conflict',
  ]),
];

/** Of what takes batches out of history and brings them back. */
export const RETRACTION_MUTATIONS: readonly Mutation[] = [
  mutation('nothing of a batch that is out is folded', '_converge_body', [
    '        where p_batch.retracted_at is null\n',
    '',
  ]),
  mutation('split: nothing of a batch that is out', '_converge_body', [
    "p_batch.retracted_at is null and c._operation <> 'DELETE'",
    "c._operation <> 'DELETE'",
  ]),
  mutation('a change that opens a version again has the key it had', '_converge_body', [
    'a.surrogate_key, false,',
    'null, false,',
  ]),
  mutation('a version that is absorbed leaves its key with its change', '_converge_body', [
    'then c._takes_effect end, c._surrogate_key,\n',
    'then c._takes_effect end, null,\n',
  ]),
  mutation('a version is printed with the untracked values that it had first', '_retract_changes', [
    'left join forgotten as f on f.surrogate_key = h.surrogate_key',
    'left join forgotten as f on false',
  ]),
  mutation('a version is printed without the values of columns that its batch lacked', '_retract_changes', [
    '(select $3::text[] as _lacks)',
    '(select null::text[] as _lacks)',
  ]),
  mutation('an absorbed change keeps the key of the version that it had opened', '_retract_changes', [
    'g.captured_at, g.surrogate_key, g.change',
    'g.captured_at, null, g.change',
  ]),
  mutation('rejected changes go with their batch', '_retract_changes', [
    'delete from tidemark.rejected_changes as r\n        where ',
    'delete from tidemark.rejected_changes as r\n        where false and ',
  ]),
  mutation('what was absorbed goes with its batch', '_retract_changes', [
    'delete from tidemark.absorbed_changes as a\n        where ',
    'delete from tidemark.absorbed_changes as a\n        where false and ',
  ]),
  mutation('keys are folded anew', '_retract_changes', [
    'v_folded := tidemark._fold_retracted(p_batch);',
    'select 0 as inserted_versions, 0 as closed_versions, 0 as corrected_versions into v_folded;',
  ]),
  mutation('one from before what was pruned is refused', 'retract_batch', [
    'v_batch.least_captured_at < v_pruned_before',
    'false',
  ]),
  mutation('pruning stops where a batch is out', '_settled_before', [', (select r.begins from retracted as r)', '']),
  mutation('history made anew is without what is out', '_replay_retractions', [
    'b.retracted_at is not null and s.retracted_at is null',
    'false',
  ]),
  mutation('history made anew knows the keys that retracted versions had', '_adopt_replayed_ledger', [
    'set surrogate_key = r.surrogate_key, rejected',
    'set surrogate_key = null, rejected',
  ]),
];
