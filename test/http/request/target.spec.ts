import { target } from '../../../lib/http/request/target';

describe('a path', () => {
  it.each([
    ['/a?b', '/mounted', '/mounted/a?b'],
    ['http://user:secret@api.example.com/a?b', '/mounted', 'http://user:secret@api.example.com/mounted/a?b'],
    ['/a?b', '', '/sent'],
  ])(
    'is whole where the application is mounted, and the one that was routed: %s',
    (url, baseUrl, originalUrl) => {
      const request = { method: 'POST', url, baseUrl, originalUrl };
      expect(target(request)).toEqual({ path: `${baseUrl}/a`, query: 'b' });
    },
  );

  it.each([
    ['/a#b', '/a', '#b'],
    ['/a#b?c', '/a', '#b?c'],
    ['/a?b#c', '/a', 'b#c'],
    ['/a?#', '/a', '#'],
  ])('ends at a number sign, as it does for the routers, and that is compared: %s', (url, path, query) => {
    expect(target({ method: 'POST', url })).toEqual({ path, query });
  });

  it.each([
    ['http://api.example.com/a/b?c=/d', '/a/b', 'c=/d'],
    ['HTTPS://user:secret@[::1]:3000/a', '/a', ''],
    ['http://api.example.com', '/', ''],
    ['http://api.example.com?c', '/', 'c'],
    ['//api.example.com/a', '//api.example.com/a', ''],
    ['/http://a/b', '/http://a/b', ''],
    ['*', '*', ''],
    ['/a?http://b/c', '/a', 'http://b/c'],
  ])('is the same in absolute form: %s', (url, path, query) => {
    expect(target({ method: 'POST', url })).toEqual({ path, query });
  });
});
