import { remembered } from '../remembered';

/**
 * Cookies that analytics, consent banners, load balancers, bot protection, CSRF protection and appearance settings
 * set. They change without the caller's doing, and a caller who looks like another one runs its handler again.
 */
const NEVER_A_SESSION = new RegExp(
  '^(?:' +
    [
      // analytics and advertising
      '_ga(?:$|_).*',
      '_gid',
      '_gat(?:$|_).*',
      '_gac_.*',
      '_gcl_.*',
      '_dc_gtm_.*',
      '__utm.*',
      '__gads',
      '__gpi',
      '__eoi',
      '_fbp',
      '_fbc',
      '_hj.*',
      '_pk_.*',
      '_uet[sv]id',
      '_clck',
      '_clsk',
      '_scid(?:$|_).*',
      '_ttp',
      '_tt_enable_cookie',
      '_rdt_uuid',
      '_pin_unauth',
      '_derived_epik',
      '__qca',
      'ajs_.*',
      'amplitude_.*',
      'amp_[0-9a-f]+(?:_.*)?',
      'mp_.*_mixpanel',
      'ph_.*_posthog',
      'optimizely.*',
      '_vwo.*',
      '_vis_opt_.*',
      'hubspotutk',
      '__hs[a-z]+',
      '_mkto_trk',
      'amcvs?_.*',
      's_(?:cc|sq|vi|fid|nr|ppvl?)',
      '_dd_s',
      'newrelic.*',
      // consent
      'optanon(?:consent|alertboxclosed)',
      'eupubconsent.*',
      'euconsent.*',
      'cookie_?-?consent.*',
      'cookielawinfo.*',
      'cookieyes.*',
      'cky-.*',
      'didomi_token',
      'usprivacy',
      'fccdcf',
      'fcnec',
      '_iub_cs.*',
      'cmplz_.*',
      'borlabs-cookie.*',
      'axeptio_.*',
      // load balancers and bot protection
      'awsalb(?:tg)?(?:cors)?',
      'awselb(?:cors)?',
      '__cf_bm',
      '__cflb',
      '__cfruid',
      '__cfduid',
      '_cfuvid',
      'cf_clearance',
      'cf_chl_.*',
      'arraffinity(?:samesite)?',
      'applicationgatewayaffinity(?:cors)?',
      'tipmix',
      'x-ms-routing-name',
      'bigipserver.*',
      'ts[0-9a-f]{8,}(?:_\\d+)?',
      'gclb',
      'serverid',
      'ingresscookie',
      'visid_incap_.*',
      'incap_ses_.*',
      'nlbi_.*',
      'reese84',
      'datadome',
      '_abck',
      'ak_bmsc',
      'bm_(?:sz|sv|mi|s|so|ss|lso)',
      '_px[a-z0-9]*',
      // CSRF protection
      '.*csrf.*',
      '.*xsrf.*',
      '\\.aspnetcore\\.antiforgery.*',
      '__requestverificationtoken.*',
      // appearance
      'theme',
      'colou?r[-_]?(?:scheme|mode)',
      'lang(?:uage)?',
      'locale',
      'next_locale',
      'i18next',
      'tz',
      'timezone',
      'currency',
    ].join('|') +
    ')$',
  'is',
);

const canBeSession = remembered((name: string) => !NEVER_A_SESSION.test(name));

/** Those that can be a session, as `name=value`, in an order that does not depend on how they were sent. */
export function sessionCookies(header: string): string[] {
  return header
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair !== '' && canBeSession(nameOf(pair)))
    .sort();
}

function nameOf(pair: string): string {
  const equals = pair.indexOf('=');
  return (equals < 0 ? pair : pair.slice(0, equals)).trimEnd();
}
