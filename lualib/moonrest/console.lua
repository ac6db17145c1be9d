-- What `resty` runs: scripts outside requests, whose output goes to the terminal.

local _M = {}

local stdout, stderr = io.stdout, io.stderr
local concat, type, tostring = table.concat, type, tostring

-- Adds what a value looks like; lists are written element by element.
local function add(parts, value)
    if type(value) == "table" then
        for i = 1, #value do
            add(parts, value[i])
        end
    elseif value == ngx.null then
        parts[#parts + 1] = "null"
    else
        parts[#parts + 1] = tostring(value)
    end
end

local function text(...)
    local parts = {}
    for i = 1, select("#", ...) do
        add(parts, (select(i, ...)))
    end
    return concat(parts)
end

-- Lets `ngx.say` and its like write to the terminal, and turns on what `-j` asks for.
function _M.prepare(options)
    ngx.config.is_console = true

    function ngx.print(...)
        local ok, err = stdout:write(text(...))
        if ok then
            return 1
        end
        return nil, err
    end

    function ngx.say(...)
        local ok, err = stdout:write(text(...), "\n")
        if ok then
            return 1
        end
        return nil, err
    end

    print = ngx.say

    function ngx.flush()
        return stdout:flush()
    end

    function ngx.eof()
        return true
    end

    ngx.exit = os.exit

    if options.jit == "off" then
        jit.off()
    elseif options.jit then
        require("jit." .. options.jit).on(options.jit_option)
    end
end

local function fail(message)
    stdout:flush()
    stderr:write("ERROR: ", tostring(message), "\n")
    os.exit(1)
end

local function load_all(script)
    local chunks = {}
    local function take(chunk, err)
        chunks[#chunks + 1] = chunk or fail(err)
    end
    for _, code in ipairs(script.inline) do
        take(loadstring(code, "=(command line -e)"))
    end
    if script.stdin then
        take(loadstring((io.read("*a"):gsub("^#[^\n]*", "")), "=stdin"))
    elseif script.file then
        take(loadfile(script.file))
    end
    return chunks
end

-- Runs scripts to their end; then the process ends as soon as no timer runs any more.
function _M.run(script)
    arg = script.arg
    for _, chunk in ipairs(load_all(script)) do
        local fine = xpcall(chunk, function(err)
            -- Neither this function nor what raised the error belongs to the script.
            fail(debug.traceback(err, 2))
        end)
        if not fine then
            os.exit(1)
        end
    end
    stdout:flush()
    require("ngx.process").signal_graceful_exit()
end

return _M
