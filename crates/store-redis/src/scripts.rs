//! What Redis must do in one step: Lua scripts, each over the keys of one slot. Time is the server's.

use std::sync::LazyLock;

use redis::Script;

/// A script and its hash.
pub(crate) struct Lua {
    pub code: &'static str,
    hashed: LazyLock<Script>,
}

impl Lua {
    /// The form that knows its hash.
    pub(crate) fn hashed(&self) -> &Script {
        &self.hashed
    }
}

macro_rules! lua {
    ($code:literal) => {
        Lua { code: $code, hashed: LazyLock::new(|| Script::new($code)) }
    };
}

/// Adds ARGV[1] to a counter that, when new, lives for ARGV[2] milliseconds; stops at the ends of 64 bits. A sum is
/// read back as text, because a number of Lua is exact only to 53 bits.
pub(crate) static ADD: Lua = lua!(
    r"
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) == 'table' and sum.err then
  if not string.find(sum.err, 'overflow', 1, true) then
    return sum
  end
  local negative = string.sub(ARGV[1], 1, 1) == '-'
  redis.call('SET', KEYS[1], negative and '-9223372036854775808' or '9223372036854775807', 'KEEPTTL')
end
if redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
"
);

/// Takes or extends a lease for holder ARGV[1] for ARGV[2] milliseconds and returns its token; nil while another
/// holds it. The key outlives the lease by ARGV[3] milliseconds to remember the token. Tokens are no smaller than
/// the time in microseconds, so that they grow even when the server has lost everything.
pub(crate) static ACQUIRE: Lua = lua!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lease = redis.call('HMGET', KEYS[1], 'holder', 'token', 'end')
local held = lease[1] and tonumber(lease[3]) > now
if held and lease[1] ~= ARGV[1] then
  return false
end
local token = lease[2]
if not held then
  token = string.format('%.0f', math.max(tonumber(token or 0) + 1, now))
end
local last = string.format('%.0f', now + ARGV[2] * 1000)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', token, 'end', last)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[2] + ARGV[3]))
return token
"
);

/// Gives the lease of holder ARGV[1] and token ARGV[2] back; remembers the token for ARGV[3] milliseconds.
pub(crate) static RELEASE: Lua = lua!(
    r"
local lease = redis.call('HMGET', KEYS[1], 'holder', 'token')
if lease[1] == ARGV[1] and lease[2] == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'holder', 'end')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1
end
return 0
"
);

/// The generic cell rate algorithm over several keys at once. Of each limit ARGV has the microseconds in which its
/// whole burst comes back and those that the call costs; a key holds the time at which its burst is whole. Returns
/// whether all were charged, then what each owes.
pub(crate) static TAKE: Lua = lua!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function keep(key, owed)
  redis.call('SET', key, string.format('%.0f', now + owed), 'PX', string.format('%.0f', math.ceil(owed / 1000)))
end
local answer = {1}
for place, key in ipairs(KEYS) do
  local whole, cost = tonumber(ARGV[2 * place - 1]), tonumber(ARGV[2 * place])
  local owed = math.max((tonumber(redis.call('GET', key) or 0)) - now, 0)
  if owed > whole then
    owed = whole
    keep(key, owed)
  end
  if owed + cost > whole then
    answer[1] = 0
  end
  answer[place + 1] = owed
end
if answer[1] == 1 then
  for place, key in ipairs(KEYS) do
    local cost = tonumber(ARGV[2 * place])
    if cost > 0 then
      answer[place + 1] = answer[place + 1] + cost
      keep(key, answer[place + 1])
    end
  end
end
return answer
"
);
