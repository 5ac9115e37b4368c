/** Injection token of the module's validated settings ({@link ModuleSettings}). */
export const MODULE_SETTINGS = Symbol('nestjs-idempotency:settings');
