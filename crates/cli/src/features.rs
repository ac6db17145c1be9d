//! What `-V` says is built in, in the words of nginx's `configure`, read off the registry.

use moonrest_http::compile::Registry;
use std::collections::HashSet;

/// Modules that nginx builds unless told otherwise, as `--without-…` names them, and what they register as.
const DEFAULT: &[(&str, &str)] = &[
    ("http_charset_module", "ngx_http_charset_module"),
    ("http_gzip_module", "ngx_http_gzip_module"),
    ("http_ssi_module", "ngx_http_ssi_module"),
    ("http_userid_module", "ngx_http_userid_module"),
    ("http_access_module", "ngx_http_access_module"),
    ("http_auth_basic_module", "ngx_http_auth_basic_module"),
    ("http_mirror_module", "ngx_http_mirror_module"),
    ("http_autoindex_module", "ngx_http_autoindex_module"),
    ("http_geo_module", "ngx_http_geo_module"),
    ("http_map_module", "ngx_http_map_module"),
    ("http_split_clients_module", "ngx_http_split_clients_module"),
    ("http_referer_module", "ngx_http_referer_module"),
    ("http_rewrite_module", "ngx_http_rewrite_module"),
    ("http_proxy_module", "ngx_http_proxy_module"),
    ("http_tunnel_module", "ngx_http_tunnel_module"),
    ("http_fastcgi_module", "ngx_http_fastcgi_module"),
    ("http_uwsgi_module", "ngx_http_uwsgi_module"),
    ("http_scgi_module", "ngx_http_scgi_module"),
    ("http_grpc_module", "ngx_http_grpc_module"),
    ("http_memcached_module", "ngx_http_memcached_module"),
    ("http_limit_conn_module", "ngx_http_limit_conn_module"),
    ("http_limit_req_module", "ngx_http_limit_req_module"),
    ("http_empty_gif_module", "ngx_http_empty_gif_module"),
    ("http_browser_module", "ngx_http_browser_module"),
    ("http_upstream_hash_module", "ngx_http_upstream_module"),
    ("http_upstream_ip_hash_module", "ngx_http_upstream_module"),
    ("http_upstream_least_conn_module", "ngx_http_upstream_module"),
    ("http_upstream_least_time_module", "ngx_http_upstream_module"),
    ("http_upstream_random_module", "ngx_http_upstream_module"),
    ("http_upstream_keepalive_module", "ngx_http_upstream_module"),
    ("http_upstream_zone_module", "ngx_http_upstream_module"),
    ("http_upstream_sticky", "ngx_http_upstream_module"),
    ("http-cache", "ngx_http_proxy_module"),
];

/// Modules that nginx builds only when asked to.
const OPTIONAL: &[(&str, &str)] = &[
    ("http_ssl_module", "ngx_http_ssl_module"),
    ("http_v2_module", "ngx_http_v2_module"),
    ("http_v3_module", "ngx_http_v3_module"),
    ("http_realip_module", "ngx_http_realip_module"),
    ("http_addition_module", "ngx_http_addition_module"),
    ("http_sub_module", "ngx_http_sub_module"),
    ("http_dav_module", "ngx_http_dav_module"),
    ("http_gunzip_module", "ngx_http_gunzip_module"),
    ("http_gzip_static_module", "ngx_http_gzip_static_module"),
    ("http_auth_request_module", "ngx_http_auth_request_module"),
    ("http_random_index_module", "ngx_http_random_index_module"),
    ("http_secure_link_module", "ngx_http_secure_link_module"),
    ("http_degradation_module", "ngx_http_degradation_module"),
    ("http_slice_module", "ngx_http_slice_module"),
    ("http_stub_status_module", "ngx_http_stub_status_module"),
    ("http_flv_module", "ngx_http_flv_module"),
    ("http_mp4_module", "ngx_http_mp4_module"),
];

/// The arguments that would have built an nginx with these modules.
pub(crate) fn configure_arguments(registry: Registry) -> String {
    let built: HashSet<&str> = registry.iter().map(|module| module.name()).collect();
    let without = DEFAULT.iter().filter(|(_, module)| !built.contains(module));
    let with = OPTIONAL.iter().filter(|(_, module)| built.contains(module));
    let mut arguments = vec!["--with-threads".to_owned(), "--with-file-aio".to_owned()];
    arguments.extend(with.map(|(name, _)| format!("--with-{name}")));
    arguments.extend(without.map(|(name, _)| format!("--without-{name}")));
    arguments.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_is_there_too() {
        let text = configure_arguments(crate::modules::registry());
        assert!(!text.contains("--without-http_rewrite_module"), "{text}");
        assert!(!configure_arguments(&[]).contains("--with-http_sub_module"));
        assert!(configure_arguments(&[]).contains("--without-http_rewrite_module"));
    }
}
