import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostText, parsePostgresUrl, PostgresUrlError } from '../src/postgres-url.js';

const hosts = (url: string): string[] => parsePostgresUrl(url).hosts.map(hostText);

test('hosts are read in their order, each with its own port', () => {
  assert.deepEqual(hosts('postgres://u:p@a:5432,b:5433/d?target_session_attrs=read-write'), ['a:5432', 'b:5433']);
  assert.deepEqual(hosts('postgresql://[::1]:5432,10.0.0.1,db.example/d'), ['[::1]:5432', '10.0.0.1', 'db.example']);
  assert.deepEqual(hosts('postgres:///d?host=/run/postgresql'), ['/run/postgresql']);
  assert.deepEqual(hosts('postgres://%2Frun%2Fpostgresql/d'), ['/run/postgresql']);
  assert.deepEqual(hosts('postgres:///d'), ['the local socket']);
});

test('user, password and database are what their escapes say', () => {
  const { user, password, database } = parsePostgresUrl('postgres://u%40x:p%3A%2F@ss%25@h/d%C3%A9');
  assert.deepEqual([user, password, database], ['u@x', 'p:/@ss%', 'dé']);
  assert.equal(parsePostgresUrl('postgres://u@h/d').password, undefined);
  const { options, applicationName } = parsePostgresUrl('postgres://h/d?options=-c%20a%3Db+c&application_name=x');
  assert.deepEqual([options, applicationName], ['-c a=b+c', 'x']);
});

test('encryption is read, and nothing else than what was asked for', () => {
  assert.equal(parsePostgresUrl('postgres://h/d').sslMode, undefined);
  for (const mode of ['disable', 'require', 'verify-full'] as const) {
    assert.equal(parsePostgresUrl(`postgres://h/d?sslmode=${mode}`).sslMode, mode);
  }
  const { sslMode, rootCert, cert, key } = parsePostgresUrl(
    'postgres://h/d?sslmode=verify-ca&sslrootcert=/r&sslcert=/c&sslkey=/k',
  );
  assert.deepEqual([sslMode, rootCert, cert, key], ['verify-ca', '/r', '/c', '/k']);
  assert.equal(parsePostgresUrl('postgres://h/d?sslmode=verify-full&sslrootcert=system').rootCert, undefined);
});

test('what cannot be read or kept is refused with what would be right, and without the password', () => {
  const nine = Array.from({ length: 9 }, () => 'h').join(',');
  for (const [url, expected] of [
    ['postgres://u:hidden@a,/d', /not an address that can be read/],
    ['postgres://u:hidden@h:0/d', /ports up to 65535/],
    ['postgres://u:hidden@h:70000/d', /ports up to 65535/],
    ['postgres://u:hid/den@h/d', /%2F/],
    ['postgres://u:hid#den@h/d', /%23/],
    ['postgres://u:hidden%zz@h/d', /%25/],
    [`postgres://u:hidden@${nine}/d`, /9 hosts; use at most 8/],
    ['postgres://u:hidden@h/d?target_session_attrs=any', /can only be read-write or primary/],
    ['postgres://u:hidden@h/d?target_session_attrs=standby', /can only be read-write or primary/],
    ['postgres://u:hidden@h/d?channel_binding=require', /can only be disable or prefer/],
    ['postgres://u:hidden@h/d?sslmode=prefer', /may end without encryption/],
    ['postgres://u:hidden@h/d?sslmode=no-verify', /use disable, require/],
    ['postgres://u:hidden@h/d?ssl=true', /use sslmode=verify-full/],
    ['postgres://u:hidden@h/d?sslrootcert=/r', /add sslmode=verify-full/],
    ['postgres://u:hidden@h/d?sslmode=verify-ca', /needs sslrootcert/],
    ['postgres://u:hidden@h/d?sslmode=require&sslrootcert=system', /proves nothing/],
    ['postgres://u:hidden@h/d?sslmode=require&sslcert=/c', /give both/],
    ['postgres://u:hidden@h/d?sslcrl=/c', /sslcrl is not one that can be kept/],
    ['postgres://u@h/d?password=hidden', /belongs before the host/],
    ['postgres://u:hidden@h/d?host=a,b', /write hosts before the path/],
    ['postgres://u:hidden@h/d?connect_timeout=0', /from 1 to 60/],
    ['postgres://u:hidden@h/d?sslmode=require&sslmode=disable', /given twice/],
  ] as const) {
    assert.throws(
      () => parsePostgresUrl(url),
      (error) => {
        assert.ok(error instanceof PostgresUrlError, url);
        assert.match(error.message, expected);
        assert.doesNotMatch(error.message, /hid/);
        return true;
      },
      url,
    );
  }
});
