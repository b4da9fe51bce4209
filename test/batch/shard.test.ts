import { describe, expect, test } from 'vitest';
import { parseShard } from '../../runner/batch/shard.js';

describe('what --shard is told', () => {
  test.each([
    '',
    '2',
    '0/4',
    '5/4',
    '-1/4',
    '1/0',
    '1/1025',
    'a/b',
    '1/4/2',
    '1/2.5',
    '1/:5',
    '1/id:',
    '1/id:1,,2',
    '3/id:5',
    '1 / 2',
    '../x',
  ])('%j is refused', (text) => {
    expect(() => parseShard(text)).toThrow(/^--shard is /);
  });
  test.each([
    ['2/4', '2-of-4'],
    ['1024/1024', '1024-of-1024'],
    ['2/id:5', '2-of-2-by-id-'],
    ['1/weird "col"/x:5', '1-of-2-by-weirdcolx-'],
    ['1/ü:a', '1-of-2-by-column-'],
  ])('%s is %s', (text, name) => {
    expect(parseShard(text)).toMatchObject({ name: expect.stringMatching(new RegExp(`^${name}`)) as string });
  });
  test('1/1 is the whole table', () => {
    expect(parseShard('1/1')).toBe('whole');
  });
});
