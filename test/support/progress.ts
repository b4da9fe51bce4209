import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TestCase, TestModule, TestSpecification, TestSuite } from 'vitest/node';
import { DefaultReporter } from 'vitest/node';

const clock = (seconds: number): string =>
  `${String(Math.floor(seconds / 60))}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;

/**
 * vitest's own report, whose line for each file that is done begins with how far the run is: "12/68 files, 3:20 minutes".
 * TEST_REPORT names a file to write the files into that failed, as JSON.
 */
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

  override onTestRunEnd(...args: Parameters<DefaultReporter['onTestRunEnd']>): void {
    super.onTestRunEnd(...args);
    const { TEST_REPORT: report } = process.env;
    if (report === undefined) return;
    const failed = args[0].filter((module) => !module.ok()).map(({ moduleId }) => path.relative('.', moduleId));
    // A file that runs on two versions is there twice.
    writeFileSync(report, JSON.stringify([...new Set(failed)]));
  }

  protected override getEntityPrefix(entity: TestCase | TestModule | TestSuite): string {
    if (entity.type !== 'module') return super.getEntityPrefix(entity);
    const minutes = clock((performance.now() - this.began) / 1000);
    return ` ${String(this.done)}/${String(this.files)} files, ${minutes} minutes ${super.getEntityPrefix(entity)}`;
  }
}
