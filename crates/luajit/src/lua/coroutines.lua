-- coroutine.resume and wrap for coroutines in which Rust functions may wait. A coroutine that waits yields the mark;
-- whoever resumed it yields the mark as well, until the mark reaches Rust, and what Rust resumes with goes the way back.
local WAITS, coroutine, resume, continue, fail = ...

local yield, create = coroutine.yield, coroutine.create
local error, type = error, type

local function settle(co, ok, ...)
    if (...) ~= WAITS then
        return ok, ...
    end
    return settle(co, continue(co, yield(WAITS, true)))
end

function coroutine.resume(co, ...)
    if type(co) ~= "thread" then
        error("bad argument #1 to 'resume' (coroutine expected)", 2)
    end
    return settle(co, resume(co, ...))
end

local function unwrap(co, ok, ...)
    if not ok then
        fail(co, ...)
    end
    if (...) ~= WAITS then
        return ...
    end
    return unwrap(co, continue(co, yield(WAITS, true)))
end

function coroutine.wrap(f)
    if type(f) ~= "function" then
        error("bad argument #1 to 'wrap' (Lua function expected)", 2)
    end
    local co = create(f)
    return function(...)
        return unwrap(co, resume(co, ...))
    end
end

-- For code that asks for an operation through the FFI and then waits for it.
function coroutine._yield()
    return yield(WAITS)
end
