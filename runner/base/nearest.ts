import distance from 'damerau-levenshtein';

/** The name that was probably meant: of those that `most` letters changed, added, left out or swapped make of `given`, the nearest. */
export function nearest(given: string, names: readonly string[], most: number): string | undefined {
  const [near] = names
    .filter((name) => Math.abs(name.length - given.length) <= most)
    .map((name) => ({ name, steps: distance(given, name).steps }))
    .filter(({ steps }) => steps <= most)
    .sort((one, other) => one.steps - other.steps);
  return near?.name;
}
