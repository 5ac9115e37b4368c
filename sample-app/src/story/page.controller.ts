import { join } from 'node:path';
import { Controller, Get, NotFoundException, Param, Res } from '@nestjs/common';
import type { Response } from 'express';

const FOLDER = join(__dirname, 'page');
const ASSETS = ['story.css', 'story.js', 'sample.js', 'view.js'];

/** The page may load and call the sample alone, runs no inline script, and is shown in no frame of another page. */
const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Cache-Control': 'no-store',
};

/** The files of the page. They hold no secret: what the page does asks for the token. */
@Controller()
export class PageController {
  @Get()
  page(@Res() response: Response): void {
    send(response, 'index.html');
  }

  @Get('story/page/:file')
  asset(@Param('file') file: string, @Res() response: Response): void {
    if (!ASSETS.includes(file)) throw new NotFoundException();
    send(response, file);
  }
}

function send(response: Response, file: string): void {
  response.sendFile(file, { root: FOLDER, headers: HEADERS, cacheControl: false });
}
