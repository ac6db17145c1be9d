-- `resty.upstream.healthcheck`: asks the peers of an upstream from time to time, and takes those out that do not answer.
-- https://github.com/openresty/lua-resty-upstream-healthcheck
--
-- Workers share what they know in a dictionary. For the upstream U and its primary peer N (`p`) or backup peer N (`b`):
--   l:U          the worker that has it checks; the others skip this turn
--   ok:U:pN      successes in a row, `nok:U:pN` failures in a row
--   d:U:pN       present where the peer is down
--   v:U          counts changes of the former; who has an older count takes them over
local upstream = require "ngx.upstream"
local new_tab = require "table.new"

local ngx = ngx
local ERR, WARN, DEBUG = ngx.ERR, ngx.WARN, ngx.DEBUG
local re_find = ngx.re.find
local ceil, max, min = math.ceil, math.max, math.min
local sub = string.sub
local concat = table.concat
local ipairs, pcall, tonumber, tostring = ipairs, pcall, tonumber, tostring

local M = { _VERSION = "0.10" }

-- Per upstream, how many checkers run in this worker.
local checkers = {}

local function errlog(...)
    ngx.log(ERR, "healthcheck: ", ...)
end

local function debug(...)
    ngx.log(DEBUG, "healthcheck: ", ...)
end

local function peer_key(prefix, name, is_backup, id)
    return prefix .. name .. (is_backup and ":b" or ":p") .. id
end

local function set_down(ctx, is_backup, id, peer, down)
    peer.down = down
    local ok, err = upstream.set_peer_down(ctx.upstream, is_backup, id, down or false)
    if not ok then
        errlog("failed to set peer down: ", err)
    end
    ctx.changed = true
    ok, err = ctx.dict:set(peer_key("d:", ctx.upstream, is_backup, id), down)
    if not ok then
        errlog("failed to set peer down state: ", err)
    end
end

-- Counts one more result of a kind, which ends a row of the other kind. Answers how many there are in a row; nil where
-- the dictionary fails.
local function count(ctx, is_backup, id, kind, other)
    local dict = ctx.dict
    local key = peer_key(kind .. ":", ctx.upstream, is_backup, id)
    local n, err = dict:get(key)
    if not n and err then
        errlog("failed to get peer ", kind, " key: ", err)
        return nil
    end
    local ok
    if n then
        n = n + 1
        ok, err = dict:incr(key, 1)
        if not ok then
            errlog("failed to incr peer ", kind, " key: ", err)
        end
    else
        n = 1
        ok, err = dict:set(key, 1)
        if not ok then
            errlog("failed to set peer ", kind, " key: ", err)
        end
    end
    if n > 1 then
        return n
    end
    key = peer_key(other .. ":", ctx.upstream, is_backup, id)
    local before
    before, err = dict:get(key)
    if not before then
        if err then
            errlog("failed to get peer ", other, " key: ", err)
            return nil
        end
    elseif before ~= 0 then
        ok, err = dict:set(key, 0)
        if not ok then
            errlog("failed to set peer ", other, " key: ", err)
        end
    end
    return n
end

local function peer_fail(ctx, is_backup, id, peer)
    debug("peer ", peer.name, " was checked to be not ok")
    local fails = count(ctx, is_backup, id, "nok", "ok")
    if fails and not peer.down and fails >= ctx.fall then
        ngx.log(WARN, "healthcheck: peer ", peer.name, " is turned down after ", fails, " failure(s)")
        set_down(ctx, is_backup, id, peer, true)
    end
end

local function peer_ok(ctx, is_backup, id, peer)
    debug("peer ", peer.name, " was checked to be ok")
    local successes = count(ctx, is_backup, id, "ok", "nok")
    if successes and peer.down and successes >= ctx.rise then
        ngx.log(WARN, "healthcheck: peer ", peer.name, " is turned up after ", successes, " success(es)")
        set_down(ctx, is_backup, id, peer, nil)
    end
end

-- What is wrong with a status line; nil if it will do.
local function check_status(statuses, name, line)
    if not statuses then
        return nil
    end
    local from, to = re_find(line, [[^HTTP/\d+\.\d+\s+(\d+)]], "joi", nil, 1)
    if not from then
        return "bad status line from " .. name .. ": " .. line
    end
    local status = tonumber(sub(line, from, to))
    if not statuses[status] then
        return "bad status code from " .. name .. ": " .. status
    end
end

-- What is wrong with a peer; nil if it answers as it should.
local function probe(ctx, sock, peer)
    local name = peer.name
    sock:settimeout(ctx.timeout)
    local ok, err
    if peer.host then
        ok, err = sock:connect(peer.host, peer.port)
    else
        ok, err = sock:connect(name)
    end
    if not ok then
        return "failed to connect to " .. name .. ": " .. err
    end
    if ctx.type == "https" then
        ok, err = sock:sslhandshake(nil, ctx.host, ctx.ssl_verify)
        if not ok then
            return "failed to ssl handshake to " .. name .. ": " .. err
        end
    end
    ok, err = sock:send(ctx.http_req)
    if not ok then
        return "failed to send request to " .. name .. ": " .. err
    end
    local line
    line, err = sock:receive()
    if not line then
        return "failed to receive status line from " .. name .. ": " .. err
    end
    return check_status(ctx.statuses, name, line)
end

local function check_peer(ctx, id, peer, is_backup)
    local sock, err = ngx.socket.tcp()
    if not sock then
        errlog("failed to create stream socket: ", err)
        return
    end
    local problem = probe(ctx, sock, peer)
    sock:close()
    if not problem then
        return peer_ok(ctx, is_backup, id, peer)
    end
    if not peer.down then
        errlog(problem)
    end
    peer_fail(ctx, is_backup, id, peer)
end

local function check_range(ctx, from, to, peers, is_backup)
    for i = from, to do
        check_peer(ctx, i - 1, peers[i], is_backup)
    end
end

-- Checks all peers, in `concurrency` groups side by side; the last group in this light thread.
local function check_peers(ctx, peers, is_backup)
    local n = #peers
    if n == 0 then
        return
    end
    local size = ceil(n / max(1, ctx.concurrency))
    local role, threads = is_backup and "backup" or "primary", {}
    for from = 1, n, size do
        local to = min(from + size - 1, n)
        local which = size == 1 and " peer " .. from - 1 or " peers " .. from - 1 .. " to " .. to - 1
        if to == n then
            if ctx.concurrency > 1 then
                debug("check ", role, which)
            end
            check_range(ctx, from, to, peers, is_backup)
        else
            debug("spawn a thread checking ", role, which)
            local thread, err = ngx.thread.spawn(check_range, ctx, from, to, peers, is_backup)
            if thread then
                threads[#threads + 1] = thread
            else
                errlog("failed to spawn a thread: ", err)
                check_range(ctx, from, to, peers, is_backup)
            end
        end
    end
    for _, thread in ipairs(threads) do
        ngx.thread.wait(thread)
    end
end

-- Makes this worker's peers as the dictionary says.
local function take_over(ctx, peers, is_backup)
    for i, peer in ipairs(peers) do
        local id = i - 1
        local known, err = ctx.dict:get(peer_key("d:", ctx.upstream, is_backup, id))
        if err and known == nil then
            errlog("failed to get peer down state: ", err)
        end
        local down = known and true or false
        if down ~= (peer.down and true or false) then
            local ok
            ok, err = upstream.set_peer_down(ctx.upstream, is_backup, id, down)
            if ok then
                peer.down = down
            else
                errlog("failed to set peer down: ", err)
            end
        end
    end
end

local function look_for_changes(ctx)
    local version, err = ctx.dict:get("v:" .. ctx.upstream)
    if not version then
        if err then
            errlog("failed to get peers version: ", err)
        elseif ctx.version > 0 then
            ctx.changed = true
        end
    elseif ctx.version < version then
        debug("upgrading peers version to ", version)
        take_over(ctx, ctx.primary_peers, false)
        take_over(ctx, ctx.backup_peers, true)
        ctx.version = version
    end
end

-- Whether this worker is the one that checks: for almost the whole interval nobody else does.
local function get_lock(ctx)
    local key = "l:" .. ctx.upstream
    local ok, err = ctx.dict:add(key, true, ctx.interval - 0.001)
    if not ok and err ~= "exists" then
        errlog("failed to add key \"", key, "\": ", err)
    end
    return ok
end

local function publish(ctx)
    local key = "v:" .. ctx.upstream
    debug("publishing peers version ", ctx.version + 1)
    ctx.dict:add(key, 0)
    local version, err = ctx.dict:incr(key, 1)
    if not version then
        errlog("failed to publish new peers version: ", err)
        return
    end
    ctx.version, ctx.changed = version, nil
end

local function run(ctx)
    debug("run a check cycle")
    look_for_changes(ctx)
    if get_lock(ctx) then
        check_peers(ctx, ctx.primary_peers, false)
        check_peers(ctx, ctx.backup_peers, true)
    end
    if ctx.changed then
        publish(ctx)
    end
end

local function check(premature, ctx)
    if premature then
        return
    end
    local ok, err = pcall(run, ctx)
    if not ok then
        errlog("failed to run healthcheck cycle: ", err)
    end
    ok, err = ngx.timer.at(ctx.interval, check, ctx)
    if not ok then
        if err ~= "process exiting" then
            errlog("failed to create timer: ", err)
        end
        checkers[ctx.upstream] = (checkers[ctx.upstream] or 0) - 1
    end
end

-- Where to connect to. `port` is asked instead of the one that requests go to.
local function with_addresses(peers, port)
    for _, peer in ipairs(peers) do
        local name = peer.name
        if name then
            local from, to = re_find(name, [[^(.*):\d+$]], "jo", nil, 1)
            if from then
                peer.host = sub(name, 1, to)
                peer.port = port or tonumber(sub(name, to + 2))
            end
        end
    end
    return peers
end

-- What is wrong with options; otherwise nil and the dictionary.
local function check_options(opts)
    if not opts.type then
        return "\"type\" option required"
    end
    if opts.type ~= "http" and opts.type ~= "https" then
        return "only \"http\" and \"https\" type are supported right now"
    end
    if not opts.http_req then
        return "\"http_req\" option required"
    end
    if not opts.shm then
        return "\"shm\" option required"
    end
    local dict = ngx.shared[opts.shm]
    if not dict then
        return "shm \"" .. tostring(opts.shm) .. "\" not found"
    end
    if not opts.upstream then
        return "no upstream specified"
    end
    return nil, dict
end

local function set_of(list)
    if not list then
        return nil
    end
    local set = new_tab(0, #list)
    for _, value in ipairs(list) do
        set[value] = true
    end
    return set
end

function M.spawn_checker(opts)
    local problem, dict = check_options(opts)
    if problem then
        return nil, problem
    end
    local name = opts.upstream
    local primary, err = upstream.get_primary_peers(name)
    if not primary then
        return nil, "failed to get primary peers: " .. err
    end
    local backup
    backup, err = upstream.get_backup_peers(name)
    if not backup then
        return nil, "failed to get backup peers: " .. err
    end
    local ctx = {
        upstream = name,
        dict = dict,
        primary_peers = with_addresses(primary, opts.port),
        backup_peers = with_addresses(backup, opts.port),
        type = opts.type,
        host = opts.host,
        ssl_verify = opts.ssl_verify ~= false,
        http_req = opts.http_req,
        timeout = opts.timeout or 1000,
        interval = max((opts.interval or 1000) / 1000, 0.002),
        fall = opts.fall or 5,
        rise = opts.rise or 2,
        statuses = set_of(opts.valid_statuses),
        concurrency = opts.concurrency or 1,
        version = 0,
    }
    if opts.no_timer and ngx.config.debug then
        check(nil, ctx)
    else
        local ok
        ok, err = ngx.timer.at(0, check, ctx)
        if not ok then
            return nil, "failed to create timer: " .. err
        end
    end
    checkers[name] = (checkers[name] or 0) + 1
    return true
end

local function add(lines, ...)
    lines[#lines + 1] = concat({ ... })
end

local function add_peers(lines, peers)
    for _, peer in ipairs(peers) do
        add(lines, "        ", peer.name, peer.down and " DOWN\n" or " UP\n")
    end
end

-- A text for people: each upstream, and which of its peers are up.
function M.status_page()
    local names, err = upstream.get_upstreams()
    if not names then
        return "failed to get upstream names: " .. err
    end
    local lines = {}
    for i, name in ipairs(names) do
        local is_checked = (checkers[name] or 0) > 0 or upstream.has_health_checks(name)
        add(lines, i > 1 and "\n" or "", "Upstream ", name, is_checked and "" or " (NO checkers)")
        local peers
        peers, err = upstream.get_primary_peers(name)
        if not peers then
            return "failed to get primary peers in upstream " .. name .. ": " .. err
        end
        add(lines, "\n    Primary Peers\n")
        add_peers(lines, peers)
        peers, err = upstream.get_backup_peers(name)
        if not peers then
            return "failed to get backup peers in upstream " .. name .. ": " .. err
        end
        add(lines, "    Backup Peers\n")
        add_peers(lines, peers)
    end
    return concat(lines)
end

local METRIC = "nginx_upstream_status_info"

-- The lines of peers of one role. Answers whether one of them is up.
local function add_peer_metrics(lines, name, peers, role)
    local found = false
    for _, peer in ipairs(peers or {}) do
        for _, state in ipairs({ "UP", "DOWN" }) do
            local holds = (peer.down and "DOWN" or "UP") == state
            add(lines, METRIC, "{name=\"", name, "\",endpoint=\"", peer.name, "\",status=\"", state, "\",role=\"", role,
                "\"} ", holds and 1 or 0, "\n")
        end
        found = found or not peer.down
    end
    return found
end

local function state_of(lines, name)
    if (checkers[name] or 0) == 0 then
        return "UNKNOWN"
    end
    local primary = upstream.get_primary_peers(name)
    if not primary then
        return "DOWN"
    end
    local primary_up = add_peer_metrics(lines, name, primary, "PRIMARY")
    local backup_up = add_peer_metrics(lines, name, upstream.get_backup_peers(name), "BACKUP")
    return (primary_up or backup_up) and "UP" or "DOWN"
end

-- The same for Prometheus.
function M.prometheus_status_page()
    local names, err = upstream.get_upstreams()
    if not names then
        return nil, "failed to get upstream names: " .. err
    end
    local lines = {}
    add(lines, "# HELP ", METRIC, " The running status of nginx upstream\n")
    add(lines, "# TYPE ", METRIC, " gauge\n")
    for _, name in ipairs(names) do
        local is = state_of(lines, name)
        for _, state in ipairs({ "UP", "DOWN", "UNKNOWN" }) do
            add(lines, METRIC, "{name=\"", name, "\",status=\"", state, "\"} ", is == state and 1 or 0, "\n")
        end
    end
    return concat(lines)
end

return M
