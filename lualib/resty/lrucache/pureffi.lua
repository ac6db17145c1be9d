-- `resty.lrucache.pureffi`: the same cache; the difference lies in how upstream's are made.
-- https://github.com/openresty/lua-resty-lrucache
return require "resty.lrucache"
