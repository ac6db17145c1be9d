-- resty.shell: runs a command, without blocking, and answers what it wrote.
local pipe = require "ngx.pipe"
local kill = require("resty.signal").kill

local concat = table.concat
local tostring = tostring
local sleep = ngx.sleep
local spawn_thread, wait_thread = ngx.thread.spawn, ngx.thread.wait

local M = { version = 0.03 }

local DEFAULT_MAX_SIZE = 128 * 1024
local SPAWN_OPTIONS = { buffer_size = 32 * 1024 }

-- Ends a process that is not wanted any more; answers `err`, with what went wrong meanwhile.
local function abandon(proc, err)
    local pid = proc:pid()
    if pid then
        local ok, problem = kill(pid, "TERM")
        if not ok then
            problem = "failed to kill process " .. pid .. ": " .. tostring(problem)
            return tostring(err) .. "; " .. problem
        end
        sleep(0.001)
        kill(pid, "KILL")
    end
    return tostring(err)
end

-- Reads a stream to its end into `parts`; answers what is wrong, if anything.
local function read_all(proc, method, parts, max_size)
    local size = 0
    while size <= max_size do
        local data, err, partial = proc[method](proc, max_size - size + 1)
        local part = data or partial
        if part then
            parts[#parts + 1] = part
            size = size + #part
        end
        if not data then
            return err ~= "closed" and err or nil
        end
    end
    return "too much data"
end

function M.run(command, stdin, timeout, max_size)
    max_size = max_size or DEFAULT_MAX_SIZE
    local proc, err = pipe.spawn(command, SPAWN_OPTIONS)
    if not proc then
        return nil, nil, nil, "failed to spawn: " .. tostring(err)
    end
    proc:set_timeouts(timeout, timeout, timeout, timeout)
    local ok
    if stdin and stdin ~= "" then
        ok, err = proc:write(stdin)
        if not ok then
            return nil, nil, nil, "failed to write to stdin: " .. abandon(proc, err)
        end
    end
    ok, err = proc:shutdown("stdin")
    if not ok then
        return nil, nil, nil, "failed to shutdown stdin: " .. abandon(proc, err)
    end

    local out, errors = {}, {}
    local out_reader = spawn_thread(read_all, proc, "stdout_read_any", out, max_size)
    local error_reader = spawn_thread(read_all, proc, "stderr_read_any", errors, max_size)
    local reason, status
    ok, reason, status = proc:wait()
    if ok == nil and reason ~= "exited" then
        reason = "failed to wait for process: " .. abandon(proc, reason)
        return nil, concat(out), concat(errors), reason
    end

    local read, problem = wait_thread(out_reader)
    if not read then
        return nil, concat(out), concat(errors), "failed to wait stdout thread: " .. tostring(problem)
    end
    if problem then
        return nil, concat(out), concat(errors), "failed to read stdout: " .. tostring(problem)
    end
    read, problem = wait_thread(error_reader)
    if not read then
        return nil, concat(out), concat(errors), "failed to wait stderr thread: " .. tostring(problem)
    end
    if problem then
        return nil, concat(out), concat(errors), "failed to read stderr: " .. tostring(problem)
    end
    return ok, concat(out), concat(errors), reason, status
end

return M
