import { canonical } from './canonical';
import { rawRequest, type PlatformRequest } from '../../platform';

/**
 * What a file is compared by, as multer, formidable and express-fileupload call it. The names and folders that they
 * choose for their copies on disk differ with each upload.
 */
const COMPARED = [
  'fieldname',
  'originalname',
  'originalFilename',
  'name',
  'encoding',
  'mimetype',
  'size',
  'md5',
  'hash',
  'buffer',
  'data',
] as const;

type Files = Readonly<Record<string, unknown>>;

/** The files that middleware has taken out of the body before interceptors start; undefined where there are none. */
export function spelledFiles(request: PlatformRequest): string | undefined {
  const raw = rawRequest(request) as unknown as Files;
  const own = request as unknown as Files;
  const file = described(own.file) ?? described(raw.file);
  const files = listed(own.files) ?? listed(raw.files);
  return file === undefined && files === undefined ? undefined : canonical([file, files]);
}

/** One list, or lists and files by the name of their field. On Fastify a method of the request may have this name. */
function listed(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(described);
  const fields = Object.entries(value).map(([name, each]) => [
    name,
    Array.isArray(each) ? each.map(described) : described(each),
  ]);
  return fields.length === 0 ? undefined : Object.fromEntries(fields);
}

function described(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('mimetype' in value)) return undefined;
  const file = value as Files;
  return Object.fromEntries(COMPARED.filter((name) => name in file).map((name) => [name, file[name]]));
}
