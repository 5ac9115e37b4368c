/** The project of a set-up has its own in place of this. */
export { AppModule } from './memory-only.js';
