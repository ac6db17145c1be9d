-- Connections to PostgreSQL and Redis: taken for as long as a function runs, then given back to the pool of the worker.
local postgres = require "resty.postgres"
local redis = require "resty.redis"

local M = {}

local IDLE_MS, POOL_SIZE = 30000, 20

local function env(name, default)
    return os.getenv(name) or default
end

local POSTGRES = {
    host = env("POSTGRES_HOST", "127.0.0.1"),
    port = tonumber(env("POSTGRES_PORT", 5432)),
    database = env("POSTGRES_DB", "notes"),
    user = env("POSTGRES_USER", "notes"),
    password = env("POSTGRES_PASSWORD"),
    -- At most so many connections from a worker; so many requests wait for one.
    pool_size = POOL_SIZE,
    backlog = 200,
}
local REDIS_HOST, REDIS_PORT = env("REDIS_HOST", "127.0.0.1"), tonumber(env("REDIS_PORT", 6379))

-- Calls `run(db)` and gives what it gives. Raises an error when there is no connection.
function M.with_postgres(run)
    local db = assert(postgres:new())
    db:set_timeouts(1000, 5000, 5000)
    assert(db:connect(POSTGRES))
    -- When `run` raises an error, the connection ends with the request: nobody gets it in an unknown state.
    local result, err = run(db)
    local ok, why = db:set_keepalive(IDLE_MS, POOL_SIZE)
    if not ok then
        ngx.log(ngx.WARN, "PostgreSQL: connection not kept: ", why)
    end
    return result, err
end

-- A connection to Redis, or `nil, err`.
function M.redis()
    local red = assert(redis:new())
    red:set_timeouts(200, 500, 500)
    local ok, err = red:connect(REDIS_HOST, REDIS_PORT)
    if not ok then
        return nil, err
    end
    return red
end

-- Calls `run(red)`. A cache that is gone is no reason to fail: then the answer is `nil`.
function M.with_redis(run)
    local red, err = M.redis()
    local result
    if red then
        result, err = run(red)
        red:set_keepalive(IDLE_MS, POOL_SIZE)
    end
    if err then
        ngx.log(ngx.WARN, "Redis: ", err)
    end
    return result
end

return M
