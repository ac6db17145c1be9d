// Checked when the crate is built: what `direct.rs` takes for granted of LuaJIT's objects, `bytecode.rs` of its bytecode.
#include <stddef.h>
#include "lj_obj.h"
#include "lj_bc.h"
#include "lj_bcdump.h"

#define CHECK(condition) _Static_assert(condition, "direct.rs, bytecode.rs: " #condition)

#if !LJ_GC64 || !LJ_LE
#error "direct.rs knows little-endian processors with 64-bit references only"
#endif

CHECK(offsetof(lua_State, status) == 11);
CHECK(offsetof(lua_State, glref) == 16);
CHECK(offsetof(lua_State, base) == 32);
CHECK(offsetof(lua_State, top) == 40);
CHECK(offsetof(lua_State, maxstack) == 48);
CHECK(offsetof(lua_State, env) == 72);
CHECK(offsetof(global_State, allocd) == 8);
CHECK(sizeof(TValue) == 8);
CHECK(offsetof(GCstr, len) == 20 && sizeof(GCstr) == 24 && sizeof(((GCstr *)0)->len) == 4);
CHECK(offsetof(GCudata, len) == 24 && sizeof(GCudata) == 48 && sizeof(((GCudata *)0)->len) == 4);
CHECK(offsetof(GCtab, array) == 16 && offsetof(GCtab, asize) == 48 && sizeof(((GCtab *)0)->asize) == 4);
CHECK(offsetof(GCtab, metatable) == 32 && offsetof(GCfuncC, upvalue) == 48 && LJ_FR2);
CHECK(offsetof(GCtab, node) == 40 && offsetof(GCtab, hmask) == 52 && offsetof(Node, val) == 0);
CHECK(LJ_GCVMASK == ((uint64_t)1 << 47) - 1);
CHECK(LJ_TNIL == ~0u && LJ_TFALSE == ~1u && LJ_TTRUE == ~2u && LJ_TLIGHTUD == ~3u && LJ_TSTR == ~4u);
CHECK(LJ_TTHREAD == ~6u && LJ_TFUNC == ~8u && LJ_TCDATA == ~10u && LJ_TTAB == ~11u && LJ_TUDATA == ~12u);
CHECK(LJ_TISNUM == ~13u);
CHECK(BCDUMP_VERSION == 2 && BCDUMP_F_STRIP == 2 && PROTO_VARARG == 2 && BC_VARG == 71);
