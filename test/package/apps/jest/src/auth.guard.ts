import {
  CanActivate,
  ExecutionContext,
  Injectable,
  UnauthorizedException,
} from '@nestjs/common';
import type { Request } from 'express';

export interface AuthedRequest extends Request {
  user: { tenant: string; sub: string };
}

@Injectable()
export class AuthGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<AuthedRequest>();
    const [tenant, sub] = request.header('Authorization')?.split(':') ?? [];
    if (!tenant || !sub) throw new UnauthorizedException();
    request.user = { tenant, sub };
    return true;
  }
}
