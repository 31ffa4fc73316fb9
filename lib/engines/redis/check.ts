import { BackplaneError } from '../../core/errors.js';
import type { Connection } from './connection.js';
import type { Keys, Topics } from './keys.js';

const OLDEST = 7;

/*
 * Calls each command of the other script once, on a key of its own, which it deletes. So no right is found missing in the
 * middle of a write. Returns the server's version, and what it refused: a command, `~` for the keys, or `&` for the topics.
 */
const CHECK = `
local key, topic = KEYS[1], ARGV[1]
local probes = {
  { 'INFO', 'server' }, { 'TIME' }, { 'PUBLISH', topic, '' }, { 'PUBSUB', 'NUMSUB', topic },
  { 'HSET', key, 'a', '1' }, { 'PEXPIRE', key, '1000' }, { 'HSETNX', key, 'a', '1' }, { 'HINCRBY', key, 'a', '1' },
  { 'HGET', key, 'a' }, { 'HMGET', key, 'a' }, { 'HGETALL', key }, { 'HDEL', key, 'b' }, { 'PTTL', key },
  { 'DEL', key },
  { 'ZADD', key, 'XX', '1', 'a' }, { 'ZCOUNT', key, '0', '1' }, { 'ZSCORE', key, 'a' }, { 'ZRANGEBYSCORE', key, '0', '1' },
  { 'ZREMRANGEBYSCORE', key, '0', '1' }, { 'ZRANGE', key, '0', '1' }, { 'ZCARD', key }, { 'ZREM', key, 'a' },
  { 'XADD', key, 'NOMKSTREAM', '*', 'a', '1' }, { 'XLEN', key }, { 'XRANGE', key, '-', '+' }, { 'XREVRANGE', key, '+', '-' },
  { 'XTRIM', key, 'MAXLEN', '1' },
}
local reply = { '' }
for _, probe in ipairs(probes) do
  local answer = redis.pcall(unpack(probe))
  if type(answer) == 'string' and probe[1] == 'INFO' then reply[1] = string.match(answer, 'redis_version:([%d.]+)') or '' end
  local text = type(answer) == 'table' and answer.err or ''
  -- Redis 7.0 says that the user can't, later ones that the user has no permissions.
  if string.find(text, 'user executing the script') or string.find(text, 'permissions') then
    if string.find(text, 'channel') then reply[#reply + 1] = '&'
    elseif string.find(text, 'key') then reply[#reply + 1] = '~'
    else reply[#reply + 1] = '+' .. string.lower(probe[1]) end
  end
end
return reply
`;

/**
 * Checks the version of a server, and the rights of the user.
 * @throws BackplaneError where one of them does not do
 */
export async function checkServer(commands: Connection, keys: Keys, topics: Topics): Promise<void> {
  const [version, ...refused] = (await commands.eval(CHECK, [keys.check], [topics.check])) as string[];
  if (version !== '' && Number.parseInt(version as string, 10) < OLDEST) {
    const message = `Redis ${version} is not supported: use Redis ${OLDEST} or later, or Valkey.`;
    throw new BackplaneError(message, 'never');
  }
  if (refused.length === 0) return;
  const pattern = `${commands.keyPrefix}${keys.start}*`;
  const rights = refused.map((each) => (each.startsWith('+') ? each : each + pattern));
  const message = `The user of Redis lacks rights: add ${[...new Set(rights)].join(' ')} to its ACL; docs/cluster.md lists all.`;
  throw new BackplaneError(message, 'never');
}
