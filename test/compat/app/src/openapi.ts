/** Takes the place of swagger/openapi.ts where @nestjs/swagger is not installed. */
export const describedOperation: (application: unknown) => object | undefined = () => undefined;
