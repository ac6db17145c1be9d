-- resty.openssl.version: which OpenSSL the other modules behave like. The library behind them is AWS-LC.
local crypto = require "moonrest.crypto"

local error, tostring = error, tostring

local M = {
    -- The interface is that of OpenSSL 3.
    version_num = 0x30000000,
    version_text = crypto.version(),
    OPENSSL_30 = true,
    OPENSSL_3X = true,
    OPENSSL_3_UP = true,
    OPENSSL_4X = false,
    OPENSSL_111 = false,

    VERSION = 0,
    CFLAGS = 1,
    BUILT_ON = 2,
    PLATFORM = 3,
    DIR = 4,
    ENGINES_DIR = 5,
    VERSION_STRING = 6,
    FULL_VERSION_STRING = 7,
    MODULES_DIR = 8,
    CPU_INFO = 9,

    INFO_CONFIG_DIR = 1001,
    INFO_ENGINES_DIR = 1002,
    INFO_MODULES_DIR = 1003,
    INFO_DSO_EXTENSION = 1004,
    INFO_DIR_FILENAME_SEPARATOR = 1005,
    INFO_LIST_SEPARATOR = 1006,
    INFO_SEED_SOURCE = 1007,
    INFO_CPU_SETTINGS = 1008,
}

local texts = {
    [M.VERSION] = M.version_text,
    [M.CFLAGS] = "compiler: n/a",
    [M.BUILT_ON] = "built on: n/a",
    [M.PLATFORM] = "platform: " .. jit.os .. "-" .. jit.arch,
    [M.DIR] = 'OPENSSLDIR: "/etc/ssl"',
    [M.ENGINES_DIR] = "ENGINESDIR: n/a",
    [M.VERSION_STRING] = "3.0.0",
    [M.FULL_VERSION_STRING] = "3.0.0",
    [M.MODULES_DIR] = "MODULESDIR: n/a",
    [M.CPU_INFO] = "CPUINFO: n/a",
}

function M.version(which)
    return texts[which] or "not available"
end

local infos = {
    [M.INFO_CONFIG_DIR] = "/etc/ssl",
    [M.INFO_ENGINES_DIR] = "/nonexistent",
    [M.INFO_MODULES_DIR] = "/nonexistent",
    [M.INFO_DSO_EXTENSION] = ".so",
    [M.INFO_DIR_FILENAME_SEPARATOR] = "/",
    [M.INFO_LIST_SEPARATOR] = ":",
    [M.INFO_SEED_SOURCE] = "os-specific",
}

function M.info(which)
    if type(which) ~= "number" then
        error("bad argument #1 to 'info' (number expected, got " .. tostring(which) .. ")", 2)
    end
    return infos[which]
end

return M
