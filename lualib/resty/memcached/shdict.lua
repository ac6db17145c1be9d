-- `resty.memcached.shdict`: memcached behind a shared dictionary, with locks against several queries for one key at a time.
-- https://github.com/openresty/lua-resty-memcached-shdict
local memcached = require "resty.memcached"
local resty_lock = require "resty.lock"

local sleep = ngx.sleep

local M = { version = "0.01" }

local function same(key)
    return key
end

-- Keys go out as they are.
local MEMC_OPTIONS = { key_transform = { same, same } }

-- `fetch(ctx, key) -> value, err` and `store(ctx, key, value, ttl?) -> true`.
function M.gen_memc_methods(options)
    local debug_log, warn, error_log = options.debug_logger, options.warn_logger, options.error_logger
    local tag, timeout = options.tag, options.memc_timeout
    local host, port = options.memc_host, options.memc_port
    local shdict_get, shdict_set = options.shdict_get, options.shdict_set
    local debugging = ngx.config.debug and debug_log

    local lock_options = {
        exptime = timeout * 2 / 1000,
        timeout = timeout * 1.2 / 1000,
        step = 0.001,
        max_step = 0.1,
    }

    -- A connection, which the caller gives back with `release`.
    local function connect(ctx)
        local memc = ctx[tag]
        if not memc then
            local err
            memc, err = memcached:new(MEMC_OPTIONS)
            if not memc then
                return nil, err
            end
            memc:set_timeout(timeout)
            ctx[tag] = memc
        end
        local ok, err = memc:connect(host, port)
        if not ok then
            return nil, err
        end
        if debugging then
            debug_log(ctx, "connected to memc")
        end
        return memc
    end

    local function release(ctx, memc)
        local ok, err = memc:set_keepalive(options.memc_conn_max_idle_time, options.memc_conn_pool_size)
        if not ok then
            warn(ctx, "failed to put connection for ", tag, " into the pool: ", err)
        end
    end

    -- Calls `run(memc) -> done, err`, again after failures. `done, err, connected`.
    local function attempt(ctx, doing, retries, delay, run)
        local memc, err = connect(ctx)
        if not memc then
            return nil, err, false
        end
        local done
        done, err = run(memc)
        for i = 1, retries do
            if done or not err then
                break
            end
            memc:close()
            if delay > 0 then
                if debugging then
                    debug_log(ctx, "waiting for ", delay, " sec before the next retry #", i)
                end
                sleep(delay)
            end
            warn(ctx, "retrying ", doing, " #", i, " from ", tag, " due to error \"", err, "\"")
            memc, err = connect(ctx)
            if not memc then
                return nil, err, false
            end
            done, err = run(memc)
        end
        if err then
            memc:close()
            return nil, err, true
        end
        release(ctx, memc)
        return done, nil, true
    end

    -- A lock (false: none is used), whether it is ours; `nil` if there can be none.
    local function lock(ctx, key)
        if options.disable_shdict then
            return false, true
        end
        local made, err = resty_lock:new(options.locks_shdict_name, lock_options)
        if not made then
            error_log(ctx, "failed to create a lock for memc queries: ", err)
            return nil
        end
        if made:lock(key) then
            return made, true
        end
        error_log(ctx, "failed to acquire cache lock on key \"", key, "\"; proceed anyway")
        return false, false
    end

    local function unlock(held)
        if held then
            held:unlock()
        end
    end

    -- The empty string stands for a key that is known to be missing.
    local function known(value)
        if value == "" then
            return nil
        end
        return value
    end

    local function fetch(ctx, key)
        local cached, stale = shdict_get(ctx, key)
        if cached and not stale then
            return known(cached)
        end
        local held = lock(ctx, key)
        if held == nil then
            return nil
        end
        if held then
            local now, old = shdict_get(ctx, key)
            if now and not old then
                if debugging then
                    debug_log(ctx, "some other timer just inserted a fresh memc result into shdict for key \"", key, "\"")
                end
                unlock(held)
                return known(now)
            end
        end
        cached = known(cached)
        local value, err, connected = attempt(
            ctx,
            "fetch",
            options.memc_fetch_retries or 1,
            (options.memc_fetch_retry_delay or 100) / 1000,
            function(memc)
                local data, _, failure = memc:get(key)
                return data, failure
            end
        )
        if err or not connected then
            unlock(held)
            if not connected then
                return cached, "failed to init " .. tag .. ": " .. (err or "")
            end
            return cached, "failed to get key \"" .. key .. "\" from " .. tag .. ": " .. err
        end
        shdict_set(ctx, key, value or "")
        unlock(held)
        return value
    end

    local function store(ctx, key, value, ttl)
        shdict_set(ctx, key, value or "", ttl)
        local held, ours = lock(ctx, key)
        if held == nil or not ours then
            return nil
        end
        local _, err, connected = attempt(
            ctx,
            "store",
            options.memc_store_retries or 1,
            (options.memc_store_retry_delay or 100) / 1000,
            function(memc)
                return memc:set(key, value, ttl or options.store_ttl or 0)
            end
        )
        unlock(held)
        if not connected then
            error_log(ctx, "failed to init ", tag, ": ", err, ", dst: ", host, ":", port)
            return nil
        elseif err then
            error_log(ctx, "failed to store key \"", key, "\" to ", tag, ": ", err)
            return nil
        end
        return true
    end

    return fetch, store
end

return M
