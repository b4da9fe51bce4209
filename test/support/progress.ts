import type { TestCase, TestModule, TestSpecification, TestSuite } from 'vitest/node';
import { DefaultReporter } from 'vitest/node';

const clock = (seconds: number): string =>
  `${String(Math.floor(seconds / 60))}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;

/** vitest's own report, whose line for each file that is done begins with how far the run is: "12/68 files, 3:20 minutes". */
export default class Progress extends DefaultReporter {
  private files = 0;
  private done = 0;
  private readonly began = performance.now();

  override onTestRunStart(specifications: readonly TestSpecification[]): void {
    this.files = specifications.length;
    super.onTestRunStart(specifications);
  }

  override onTestModuleEnd(module: TestModule): void {
    this.done += 1;
    super.onTestModuleEnd(module);
  }

  protected override getEntityPrefix(entity: TestCase | TestModule | TestSuite): string {
    if (entity.type !== 'module') return super.getEntityPrefix(entity);
    const minutes = clock((performance.now() - this.began) / 1000);
    return ` ${String(this.done)}/${String(this.files)} files, ${minutes} minutes${super.getEntityPrefix(entity)}`;
  }
}
