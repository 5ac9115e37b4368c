const { rmSync } = require('node:fs');

module.exports = () => rmSync(process.env.POSTGRES_TEMPLATES, { recursive: true, force: true });
