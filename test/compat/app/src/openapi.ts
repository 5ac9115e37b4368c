/** Takes the place of swagger/openapi.ts where @nestjs/swagger is not installed. */
export function describedPaths(application: unknown): string[] {
  void application;
  return [];
}
