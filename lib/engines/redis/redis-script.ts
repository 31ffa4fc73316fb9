import { VERSION } from './codec.js';

/*
 * What Redis does for a node, each as one script, and so at one moment: nothing of another node's comes between. All keys
 * come as KEYS and share a hash tag, so that a Redis Cluster keeps them in one slot and runs the script there.
 *
 * hub        hash    version (of all keys), epoch, run (the server process that the epoch is of), seq, looked (the time of the
 *                    last sync of any node, and its lease), and of each node life:<node>, its version and the connections by which it speaks
 * nodes      zset    each node, by the time at which its lease ends
 * ended      zset    names of channels that have ended, by the seq of the last end; '' by the seq up to which ends may
 *                    have been forgotten
 * channel    hash    one for each channel: open (1, or 0 once it has ended), terms, begun, made, after and last (seq),
 *                    bytes (retained), until (when its log expires), lingers (until when it can be read, once it has ended).
 *                    begun: the end of the one before it; made: where the order stood when it was made; after: up to where
 *                    one may have ended before
 * log        stream  its entries, whose ids are <seq>-<milliseconds>: p(revious), a(sker), b(ody); no b is the end, whose a
 *                    is how long it lingers
 * audience   hash    one for each name: the nodes that take entries of its channels, each with its last known count of listeners.
 *                    A node enters when it follows a channel, or when a listener waits for one. An end removes nobody.
 *                    '': from which time (ms) on the hash is complete, 0 if it was never lost. If a channel is known and ''
 *                    is missing, the key was lost
 * accepted   zset    one for each node: its latest appends, as <number>:<seq>:<those who took it>, or
 *                    <number>:ended
 */
export const SCRIPT = `
local op = ARGV[1]
local hub = KEYS[1]

-- Ends that are remembered. A name takes 0.1 KiB.
local ENDS = 10000

local function text(number) return string.format('%d', number) end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A server process that is not the one which began the epoch may have lost the end of the log: after a failover, or a
-- restart from a file that was written a moment before. What it has lost it can't know, so the order begins anew.
if op == 'hello' then
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local known = redis.call('HMGET', hub, 'epoch', 'run', 'seq', 'version')
  -- Nodes of this version can't read what one of another version writes.
  if known[4] and known[4] ~= '${VERSION}' then return known[4] end
  redis.call('HSET', hub, 'version', '${VERSION}')
  -- If the hub was lost, logs of the lost order may still be there. Microseconds are above every seq in them.
  if not known[1] then
    local time = redis.call('TIME')
    known[3] = text(time[1] * 1000000 + time[2])
    redis.call('HSET', hub, 'seq', known[3])
  end
  if not known[1] or known[2] ~= run then
    redis.call('HSET', hub, 'epoch', ARGV[2], 'run', run)
    -- Positions of the old epoch mean nothing, and the last ends of it may be lost.
    redis.call('DEL', KEYS[2])
    redis.call('ZADD', KEYS[2], known[3] or '0', '')
  end
  redis.call('HSET', hub, 'life:' .. ARGV[3], ARGV[4])
  return '${VERSION}'
end

local state = redis.call('HMGET', hub, 'epoch', 'seq')
local epoch, head = state[1], tonumber(state[2] or '0')

-- A position that another program may have written: nil where it is none.
local function position(value)
  if value and string.find(value, '^%d+$') and tonumber(value) <= head then return value end
end

local function count(value) return math.max(tonumber(value or '0') or 0, 0) end

local function keep_known(channel, log, audience, terms, keep)
  for _, key in ipairs({ channel, audience }) do
    if redis.call('PTTL', key) < keep then redis.call('PEXPIRE', key, text(keep)) end
  end
  -- Where age is no bound, what is retained stays for as long as the channel does.
  if terms and string.find(terms, '"age":null', 1, true) then redis.call('PEXPIRE', log, text(keep)) end
end

-- The lease of a node that speaks is over only if its process stood still, the clock jumped or the key was lost. Gives a new
-- lease to each node that was alive when this one was last.
local function renew(nodes, node, now, lease)
  local score = redis.call('ZSCORE', nodes, node)
  local ends = tonumber(score or '0')
  local jump = math.min(now + lease - ends, 0)
  if ends > now and jump == 0 then return end
  local known = redis.call('HGETALL', hub)
  for index = 1, #known, 2 do
    local other = string.match(known[index], '^life:(.*)$')
    local its = other and redis.call('ZSCORE', nodes, other)
    if its and jump < 0 then redis.call('ZADD', nodes, text(tonumber(its) + jump), other)
    elseif other and (not its or (score and tonumber(its) <= now and tonumber(its) > ends - lease)) then
      redis.call('ZADD', nodes, text(now + lease), other)
    end
  end
end

-- An audience lacks no node from this time on, unless a time is there already.
local function complete_from(audience, time, keep)
  redis.call('HSETNX', audience, '', text(time))
  if redis.call('PTTL', audience) < 0 then redis.call('PEXPIRE', audience, text(keep)) end
end

-- The nodes of an audience that take what is published on a topic, and after each the listeners that it was last known to have.
-- If the key was lost, these are all nodes that are alive, for one lease: each of them enters it again within that.
local function takers_of(audience, nodes, topic, now, lease, keep)
  local present, takers, lapsed, complete = redis.call('HGETALL', audience), {}, {}, nil
  local entered = {}
  for index = 1, #present, 2 do
    local node, listeners = present[index], present[index + 1]
    local its = redis.call('ZSCORE', nodes, node)
    if node == '' then complete = count(listeners)
    elseif not its then redis.call('HDEL', audience, node)
    else
      local list = tonumber(its) > now and takers or lapsed
      list[#list + 1] = node
      list[#list + 1] = listeners
      entered[node] = true
    end
  end
  -- A process that stood still for longer than its lease takes the entry when it goes on, if its connection is still there. PUBSUB
  -- NUMSUB counts the connections of this server, and does not say whose they are.
  if #lapsed > 0 then
    local subscribed = redis.pcall('PUBSUB', 'NUMSUB', topic)
    if subscribed.err or subscribed[2] > #takers / 2 then
      for _, value in ipairs(lapsed) do takers[#takers + 1] = value end
    end
  end
  if not complete then
    complete = now + lease
    complete_from(audience, complete, keep)
  end
  if complete <= now then return takers end
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, text(now + 1), '+inf')) do
    if not entered[node] then
      takers[#takers + 1] = node
      takers[#takers + 1] = '0'
    end
  end
  return takers
end

-- The seq of the last entry that a log retains, or nil; and whether that is an end.
local function last_of(log)
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if not newest then return nil, false end
  return position(string.match(newest[1], '^%d+')), #newest[2] < 6
end

-- Up to here ends may have been forgotten. What evicts the key evicts that too.
local function forgotten(ended)
  local seq = redis.call('ZSCORE', ended, '')
  if not seq then
    seq = text(head)
    redis.call('ZADD', ended, seq, '')
  end
  return tonumber(seq)
end

local function last_end(ended, name) return tonumber(redis.call('ZSCORE', ended, name) or '0') end

local function remember_end(ended, name, seq)
  forgotten(ended)
  redis.call('ZADD', ended, text(seq), name)
  if redis.call('ZCARD', ended) <= ENDS + 1 then return end
  -- The first is '', since no end that is remembered stands before those that were forgotten.
  local oldest = redis.call('ZRANGE', ended, 1, 1, 'WITHSCORES')
  redis.call('ZREM', ended, oldest[1])
  redis.call('ZADD', ended, oldest[2], '')
end

-- Nothing is made where there is a channel. All nodes are told of one that is made. Returns the seq up to which ends are of
-- earlier channels of the name.
local function make(channel, log, audience, ended, terms, keep, lease, all, name, is_held)
  local line = redis.call('HMGET', channel, 'open', 'last', 'terms')
  if line[1] ~= '1' or not line[3] then
    local newest, is_over = last_of(log)
    local last, before = position(line[2]) or newest or text(head), last_end(ended, name)
    local made = last
    -- Also if the key was lost after the end.
    if line[1] == '0' or is_over then
      redis.call('DEL', log)
      before = math.max(before, tonumber(last))
      redis.call('HSET', channel, 'begun', last)
    elseif not line[3] then
      -- The key was lost, if a node held the channel or anything was written. What the log retains is of this channel. What it let
      -- go before may be as well.
      local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
      made = oldest and oldest[2][2] or last
      if oldest or is_held then before = math.max(before, tonumber(made)) end
    end
    local after = text(math.max(forgotten(ended), before))
    redis.call('HSET', channel, 'open', '1', 'terms', terms, 'last', last, 'made', made, 'after', after)
    redis.call('HSETNX', audience, '', line[2] and text(clock() + lease) or '0')
    local place = epoch .. ' ' .. last .. ' ' .. made .. ' ' .. after
    redis.call('PUBLISH', all, '${VERSION} n ' .. place .. '\\n' .. name .. '\\n' .. terms)
  end
  redis.call('HSETNX', channel, 'terms', terms)
  keep_known(channel, log, audience, terms, keep)
  local known = redis.call('HMGET', channel, 'made', 'begun')
  return position(known[1]) or position(known[2]) or '0'
end

-- What a node sent by a connection that it has given up may be read at any time after: behind what it sends by the next.
local function is_of_the_past(node, life) return redis.call('HGET', hub, 'life:' .. node) ~= life end

-- KEYS: hub, nodes, accepted, ended, channel, log, audience
if op == 'append' then
  local nodes, accepted, ended, channel, log, audience = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
  local known, node, number, after, settled = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  local again, asks, made = ARGV[7] == '1', ARGV[8] == '1', ARGV[9]
  local frames, bytes, age, keep = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
  local life, lease, linger = ARGV[14], tonumber(ARGV[15]), ARGV[16]
  local topic, name, body = ARGV[17], ARGV[18], ARGV[19]
  if known ~= epoch then return { 'epoch' } end
  if is_of_the_past(node, life) then return { 'past' } end
  local now = clock()

  -- What is tried again has the answer that it had: it was taken by those who were there when it happened, or by nobody.
  local seq, takers
  if again then
    local before = redis.call('ZRANGEBYSCORE', accepted, number, number)[1] or ''
    local at, names = string.match(before, '^%d+:(%d+):(.*)$')
    if before == number .. ':ended' then return { 'ended' } end
    if at then seq, takers = tonumber(at), cjson.decode(names) end
  end
  if not seq then
    if after ~= '0' and redis.call('ZCOUNT', accepted, after, after) == 0 then return { 'order' } end
    local line = redis.call('HMGET', channel, 'open', 'last', 'bytes', 'until')
    local newest, is_over
    if not line[1] then newest, is_over = last_of(log) end
    if (line[1] == '0' or is_over) and made == '' then
      -- What stands behind it has not to be sent again for its sake.
      redis.call('ZADD', accepted, number, number .. ':ended')
      return { 'ended' }
    end
    if made ~= '' then
      local begun = make(channel, log, audience, ended, made, keep, lease, topic, name)
      redis.call('ZADD', accepted, number, number .. ':' .. begun .. ':{}')
      return { 'ok', begun }
    end

    -- Neither key is known: both were lost with the epoch, or this is the first channel of the name.
    if not line[1] and not line[2] then complete_from(audience, 0, keep) end
    if asks then
      renew(nodes, node, now, lease)
      takers = takers_of(audience, nodes, topic, now, lease, keep)
    else takers = {} end
    seq = redis.call('HINCRBY', hub, 'seq', 1)
    local previous = position(line[2]) or newest or text(seq - 1)
    local id = text(seq) .. '-' .. text(now)
    local asker = ''
    if not body then asker = linger
    elseif asks then asker = number .. ' ' .. node end
    if number % 64 <= 1 then
      redis.call('ZREMRANGEBYSCORE', accepted, '-inf', settled)
      redis.call('PEXPIRE', accepted, text(keep))
    end

    -- What is over a bound goes an eighth of it at a time: a stream gives up many entries as cheaply as one.
    local length = redis.call('XLEN', log) + 1
    local retained = #(body or '')
    if length > 1 then retained = retained + count(line[3]) end
    -- Old entries are looked for, and expiries put off, when an eighth of the time has passed or the bound is another one.
    local span = age > 0 and age or keep
    local left, lives = count(line[4]) - now, text(span * 1.25)
    local stale, more = left < lives - span / 8 or left > tonumber(lives), false
    if length > 1 and (length > frames * 1.125 or retained > bytes * 1.125 or stale) then
      local first
      for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', math.min(length - 1, 256))) do
        first = entry[1]
        local old = age > 0 and now - tonumber(string.match(first, '-(%d+)$')) > age
        if length <= frames and retained <= bytes and not old then break end
        length = length - 1
        retained = retained - #(entry[2][6] or '')
        first = nil
      end
      if first then redis.call('XTRIM', log, 'MINID', first)
      else
        redis.call('XTRIM', log, 'MAXLEN', length - 1)
        more = length > 1
      end
    end
    local expires = line[4]
    if stale then
      -- Where more has to go, the next append goes on.
      expires = more and '0' or text(now + lives)
      for _, key in ipairs({ channel, audience }) do redis.call('PEXPIRE', key, text(math.max(age, keep) * 1.25)) end
    end
    redis.call('HSET', channel, 'bytes', text(retained), 'until', expires)
    local took = number .. ':' .. text(seq) .. ':' .. cjson.encode(takers)
    redis.call('ZADD', accepted, number, took)
    if not body then remember_end(ended, name, seq) end

    -- Everything that may fail comes before XADD, because from then on other nodes see the entry.
    local fields = { 'p', previous, 'a', asker }
    if body then fields = { 'p', previous, 'a', asker, 'b', body } end
    local added = redis.pcall('XADD', log, id, unpack(fields))
    if added.err and (string.find(added.err, 'ID specified') or string.find(added.err, 'exhausted')) then
      -- Another program has written behind the end of the order. Listeners that lack what is lost with it are told of a gap.
      redis.call('DEL', log)
      redis.call('HSET', channel, 'bytes', text(#(body or '')))
      stale = true
      added = redis.pcall('XADD', log, id, unpack(fields))
    end
    if added.err then
      redis.call('ZREM', accepted, took)
      return added
    end
    local failure
    local function follow(...)
      local answer = redis.pcall(...)
      if type(answer) == 'table' and answer.err then failure = answer.err end
    end
    follow('HSET', channel, 'open', body and '1' or '0', 'last', text(seq))
    if stale or length == 1 then follow('PEXPIRE', log, lives) end
    if not body then
      follow('HSET', channel, 'lingers', text(now + linger))
      for _, key in ipairs({ channel, log, audience }) do
        if redis.call('PTTL', key) < tonumber(linger) then follow('PEXPIRE', key, linger) end
      end
    end
    local kind = 'e'
    if not body then kind = 'x' end
    local place = '${VERSION} ' .. kind .. ' ' .. epoch .. ' ' .. text(seq) .. ' ' .. previous .. ' ' .. asker
    follow('PUBLISH', topic, place .. '\\n' .. (body or name))
    if failure then return { 'half', failure } end
  end

  return { 'ok', text(seq), unpack(takers) }
end

-- KEYS: hub, nodes, accepted, then channel, log and audience of each
if op == 'sync' then
  local node, lease, keep, topic, mark = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
  if not epoch then return { 'epoch' } end
  local now = clock()
  redis.call('HSETNX', hub, 'life:' .. node, ARGV[7])
  -- If the node that looked last did so too long ago, Redis was away. The nodes that were alive then will look at what they missed.
  local looked, pace = string.match(redis.call('HGET', hub, 'looked') or '', '^(%d+) (%d+)$')
  if looked and now - tonumber(looked) > tonumber(pace) * 2 / 3 then
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], looked, text(now))) do
      redis.call('ZADD', KEYS[2], text(now + tonumber(pace)), other)
    end
  end
  redis.call('HSET', hub, 'looked', text(now) .. ' ' .. text(lease))
  renew(KEYS[2], node, now, lease)
  redis.call('ZADD', KEYS[2], now + lease, node)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - keep)) do
    redis.call('ZREM', KEYS[2], dead)
    redis.call('HDEL', hub, 'life:' .. dead)
  end
  redis.call('PEXPIRE', KEYS[3], keep)
  local reply = { epoch, text(head), text(now) }
  local top = ARGV[8] == '' and text(head) or ARGV[8]
  for index = 0, (#KEYS - 3) / 3 - 1 do
    local channel, log, audience = KEYS[4 + 3 * index], KEYS[5 + 3 * index], KEYS[6 + 3 * index]
    local from, listeners = ARGV[9 + 2 * index], ARGV[10 + 2 * index]
    local line = redis.call('HMGET', channel, 'last', 'terms', 'begun', 'made', 'after')
    local last = position(line[1])
    if not last then
      last = last_of(log) or text(head)
      redis.call('HSET', channel, 'last', last)
      redis.call('HSETNX', audience, '', '0')
    end
    -- Of what was made by a node of an earlier version, or is not made yet, less is known.
    local begun, made, after = position(line[3]) or '0', position(line[4]) or last, position(line[5]) or text(head)
    if tonumber(last) > tonumber(top) then
      -- Written behind the mark, which a call before this one made: what follows the mark tells what was last before it.
      local behind = redis.call('XRANGE', log, text(tonumber(top) + 1), '+', 'COUNT', 1)[1]
      last = behind and behind[2][2] or top
    end
    -- Made behind the mark, it has nothing that stands before.
    if tonumber(made) > tonumber(last) then made = last end
    redis.call('HSET', audience, node, listeners)
    keep_known(channel, log, audience, line[2], keep)
    if from == '' then
      reply[#reply + 1] = { text(index), last, begun, made, after, redis.call('XRANGE', log, '-', top) }
    elseif last ~= from then
      reply[#reply + 1] = { text(index), last, begun, made, after, redis.call('XRANGE', log, text(tonumber(from) + 1), top) }
    end
  end
  if mark ~= '' then redis.call('PUBLISH', topic, '${VERSION} m ' .. mark) end
  return reply
end

-- KEYS: hub, ended, then channel, log and audience of each
if op == 'hold' then
  local keep, lease, all = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
  local over = {}
  if not epoch then return over end
  for index = 0, (#KEYS - 2) / 3 - 1 do
    local channel, log, audience = KEYS[3 + 3 * index], KEYS[4 + 3 * index], KEYS[5 + 3 * index]
    local name, terms = ARGV[5 + 2 * index], ARGV[6 + 2 * index]
    local line = redis.call('HMGET', channel, 'open', 'last')
    local newest, is_over
    if not line[1] then newest, is_over = last_of(log) end
    if line[1] == '0' or is_over then
      over[#over + 1] = text(index)
      over[#over + 1] = position(line[2]) or newest or text(head)
    else make(channel, log, audience, KEYS[2], terms, keep, lease, all, name, true) end
  end
  return over
end

-- Of each name: its terms, for how long it lingers still or '' while it lives, and its last end. If the key of a channel was lost,
-- what its log retains counts as ended. KEYS: hub, ended, then channel and log of each
if op == 'find' then
  if not epoch then return { 'epoch' } end
  local now = clock()
  local reply = { epoch, text(forgotten(KEYS[2])) }
  for index = 3, #KEYS, 2 do
    local line = redis.call('HMGET', KEYS[index], 'open', 'terms', 'lingers', 'last')
    local terms, linger, at = line[2] or '', '', last_end(KEYS[2], ARGV[(index + 1) / 2])
    if line[1] == '0' then
      linger = text(math.max(count(line[3]) - now, 0))
      at = math.max(at, tonumber(position(line[4]) or '0'))
    end
    if not line[1] then terms = '' end
    if terms == '' then at = math.max(at, tonumber(last_of(KEYS[index + 1]) or '0')) end
    reply[#reply + 1] = terms
    reply[#reply + 1] = linger
    reply[#reply + 1] = text(at)
  end
  return reply
end

-- KEYS: hub, then each audience
if op == 'await' then
  if is_of_the_past(ARGV[2], ARGV[3]) then return { 'past' } end
  for index = 2, #KEYS do
    redis.call('HSET', KEYS[index], ARGV[2], ARGV[3 + index])
    if redis.call('PTTL', KEYS[index]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[index], ARGV[4]) end
  end
  return {}
end

-- KEYS: hub, then each audience
if op == 'leave' then
  if is_of_the_past(ARGV[2], ARGV[3]) then return {} end
  for index = 2, #KEYS do redis.call('HDEL', KEYS[index], ARGV[2]) end
  return {}
end

-- KEYS: hub, nodes, accepted
if op == 'bye' then
  redis.call('HDEL', hub, 'life:' .. ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('DEL', KEYS[3])
  return {}
end

-- KEYS: hub, nodes
if op == 'nodes' then
  local now = clock()
  renew(KEYS[2], ARGV[2], now, tonumber(ARGV[3]))
  return redis.call('ZRANGEBYSCORE', KEYS[2], text(now), '+inf')
end
`;
