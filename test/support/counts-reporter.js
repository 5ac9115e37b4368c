const { writeFileSync } = require('node:fs');

/** Leaves jest's own counts in the file that JEST_COUNTS names, for `.ci/run`. */
module.exports = class CountsReporter {
  onRunComplete(_, { numPassedTests, numFailedTests, numFailedTestSuites }) {
    if (!process.env.JEST_COUNTS) return;
    writeFileSync(
      process.env.JEST_COUNTS,
      `${numPassedTests} passed, ${Math.max(numFailedTests, numFailedTestSuites)} failed`,
    );
  }
};
