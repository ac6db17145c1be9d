# Values that clients keep.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a value comes back
--- config
encrypted_session_key "abcdefghijklmnopqrstuvwxyz123456";
encrypted_session_iv "12345678";
location / {
    set $raw 'text to encrypted!';
    set_encrypt_session $session $raw;
    set $other $session;
    set_decrypt_session $session;
    set_decrypt_session $broken "x$other";
    return 200 "$session [$broken]";
}
--- request
GET /
--- response_body: text to encrypted! []

=== its form is that of the reference
--- config
encrypted_session_key "abcdefghijklmnopqrstuvwxyz123456";
encrypted_session_expires 0;
location / {
    set_encrypt_session $session abc;
    set_encode_base32 $session;
    return 200 $session;
}
--- request
GET /
--- response_body: ktrp3n437q42laejppc9d4bg0jpv0ejie106ooo65od9lf5huhs0====

=== Lua encrypts too
--- config
encrypted_session_key "abcdefghijklmnopqrstuvwxyz123456";
location / {
    content_by_lua_block {
        local text = ndk.set_var.set_encrypt_session("secret")
        ngx.print(#text, " ", ndk.set_var.set_decrypt_session(text))
    }
}
--- request
GET /
--- response_body: 32 secret

=== without a key
--- config
location / { set_encrypt_session $session a; return 200 never; }
--- request
GET /
--- error_code: 500
--- error_log
encrypted_session: a key is required to be defined by the encrypted_session_key directive

=== a key of another length
--- config
encrypted_session_key short;
--- must_die
--- error_log
encrypted_session_key: the key must be of 32 bytes long
