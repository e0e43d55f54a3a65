/* ce_guard: turns broken messages away at the edge. One proxy-wasm module (ABI 0.2.1), two filters, no SDK.
 *
 * HTTP filter: a request with any of the headers ce-specversion, ce-id, ce-source and ce-type is an event in
 *   binary mode and needs them all; else it is answered 400.
 * Network filter, before tcp_proxy: a connection has to begin with an MQTT CONNECT, of version 3.1.1 or 5 (1883 is
 *   open to whatever scans the network); else it is closed, and no gateway hears of it.
 *
 * Counters, in Envoy's /stats/prometheus: ce_guard_http_rejected, ce_guard_mqtt_rejected, ce_guard_mqtt_accepted.
 *
 * Build (pip install ziglang==0.17.1), then renew SHA256SUMS:
 *   python -m ziglang cc -target wasm32-freestanding -O2 -nostdlib -Wl,--no-entry -Wl,--strip-all -o ce_guard.wasm ce_guard.c
 *   sha256sum ce_guard.c ce_guard.wasm >SHA256SUMS
 */
typedef unsigned char u8;
typedef unsigned int u32;

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name(#name)))

/* The host's functions answer 0 for success. */
IMPORT(proxy_get_header_map_value) u32 proxy_get_header_map_value(u32 map, const char *key, u32 key_size, char **value, u32 *size);
IMPORT(proxy_send_local_response) u32 proxy_send_local_response(u32 status, const char *detail, u32 detail_size, const char *body,
                                                                u32 body_size, const char *headers, u32 headers_size, u32 grpc);
IMPORT(proxy_get_buffer_bytes) u32 proxy_get_buffer_bytes(u32 buffer, u32 start, u32 length, char **bytes, u32 *size);
IMPORT(proxy_close_stream) u32 proxy_close_stream(u32 stream);
IMPORT(proxy_define_metric) u32 proxy_define_metric(u32 type, const char *name, u32 size, u32 *id);
IMPORT(proxy_increment_metric) u32 proxy_increment_metric(u32 id, long long by);

enum { REQUEST_HEADERS = 0, DOWNSTREAM_DATA = 2, DOWNSTREAM = 2, COUNTER = 0, CONTINUE = 0, STOP = 1 };

static u32 http_rejected, mqtt_rejected, mqtt_accepted;

static u32 length_of(const char *text) {
  u32 n = 0;
  while (text[n]) n++;
  return n;
}

/* What the host hands in goes here; it is needed during one callback only. */
static u8 heap[256 * 1024];
static u32 heap_used;

EXPORT(proxy_on_memory_allocate) void *proxy_on_memory_allocate(u32 size) {
  size = (size + 7) & ~7u;
  if (size > sizeof heap - heap_used) return 0;
  void *room = heap + heap_used;
  heap_used += size;
  return room;
}

/* Connections of which the CONNECT has not come yet: an open-addressed set of context ids, 0 for an empty place.
 * A connection leaves it with its first packet, so it is no larger than the number of those that say nothing. */
enum { PLACES = 1 << 16, MOST_WAITING = PLACES / 2 };
static u32 waiting[PLACES], waiting_count;

static u32 home_of(u32 context) { return (context * 2654435769u) >> 16; }

static u32 place_of(u32 context) {
  u32 place = home_of(context);
  while (waiting[place] && waiting[place] != context) place = (place + 1) % PLACES;
  return place;
}

static void forget(u32 context) {
  u32 hole = place_of(context);
  if (!waiting[hole]) return;
  waiting_count--;
  waiting[hole] = 0;
  for (u32 next = (hole + 1) % PLACES; waiting[next]; next = (next + 1) % PLACES) {
    u32 from_home = (next - home_of(waiting[next])) % PLACES, from_hole = (next - hole) % PLACES;
    if (from_home < from_hole) continue; /* it may not move before its home */
    waiting[hole] = waiting[next];
    waiting[next] = 0;
    hole = next;
  }
}

EXPORT(proxy_abi_version_0_2_1) void proxy_abi_version_0_2_1(void) {}
EXPORT(proxy_on_vm_start) u32 proxy_on_vm_start(u32 context, u32 size) { (void)context, (void)size; return 1; }
EXPORT(proxy_on_configure) u32 proxy_on_configure(u32 context, u32 size) {
  (void)context, (void)size;
  static const char *names[] = {"ce_guard_http_rejected", "ce_guard_mqtt_rejected", "ce_guard_mqtt_accepted"};
  u32 *ids[] = {&http_rejected, &mqtt_rejected, &mqtt_accepted};
  for (u32 i = 0; i < 3; i++)
    if (proxy_define_metric(COUNTER, names[i], length_of(names[i]), ids[i])) return 0;
  return 1;
}
EXPORT(proxy_on_context_create) void proxy_on_context_create(u32 context, u32 parent) { (void)context, (void)parent; }
EXPORT(proxy_on_done) u32 proxy_on_done(u32 context) { (void)context; return 1; }
EXPORT(proxy_on_log) void proxy_on_log(u32 context) { (void)context; }
EXPORT(proxy_on_delete) void proxy_on_delete(u32 context) { forget(context); }

static int has(const char *header) {
  char *value = 0;
  u32 size = 0;
  heap_used = 0;
  return proxy_get_header_map_value(REQUEST_HEADERS, header, length_of(header), &value, &size) == 0 && size > 0;
}

EXPORT(proxy_on_request_headers) u32 proxy_on_request_headers(u32 context, u32 headers, u32 end) {
  (void)context, (void)headers, (void)end;
  static const char *required[] = {"ce-specversion", "ce-id", "ce-source", "ce-type"};
  static const char body[] = "not a CloudEvent: ce-specversion, ce-id, ce-source and ce-type are required\n";
  u32 present = 0;
  for (u32 i = 0; i < 4; i++) present += has(required[i]);
  if (present == 0 || present == 4) return CONTINUE;
  proxy_increment_metric(http_rejected, 1);
  proxy_send_local_response(400, "ce_guard", 8, body, sizeof body - 1, 0, 0, (u32)-1);
  return STOP;
}

/* How the beginning of a connection looks. MQTT 5 section 3.1: packet type and flags, remaining length (1 to 4 bytes),
 * the protocol's name with its length, and the level, which is 4 for MQTT 3.1.1. */
enum verdict { CONNECT, BROKEN, UNFINISHED };

static enum verdict judge(const u8 *bytes, u32 size) {
  static const u8 name[] = {0, 4, 'M', 'Q', 'T', 'T'};
  u32 at = 1;
  if (size == 0) return UNFINISHED;
  if (bytes[0] != 0x10) return BROKEN;
  do {
    if (at == 5) return BROKEN;
    if (at == size) return UNFINISHED;
  } while (bytes[at++] & 0x80);
  for (u32 i = 0; i < sizeof name; i++, at++) {
    if (at == size) return UNFINISHED;
    if (bytes[at] != name[i]) return BROKEN;
  }
  if (at == size) return UNFINISHED;
  return bytes[at] == 4 || bytes[at] == 5 ? CONNECT : BROKEN;
}

static u32 refuse(u32 context) {
  forget(context);
  proxy_increment_metric(mqtt_rejected, 1);
  proxy_close_stream(DOWNSTREAM);
  return STOP;
}

EXPORT(proxy_on_new_connection) u32 proxy_on_new_connection(u32 context) {
  if (waiting_count == MOST_WAITING) return refuse(context);
  waiting[place_of(context)] = context;
  waiting_count++;
  return CONTINUE;
}

EXPORT(proxy_on_downstream_data) u32 proxy_on_downstream_data(u32 context, u32 size, u32 end) {
  if (!waiting[place_of(context)]) return CONTINUE;
  char *bytes = 0;
  u32 got = 0;
  heap_used = 0;
  if (size && proxy_get_buffer_bytes(DOWNSTREAM_DATA, 0, size < 12 ? size : 12, &bytes, &got)) return refuse(context);
  switch (judge((const u8 *)bytes, got)) {
  case CONNECT:
    forget(context);
    proxy_increment_metric(mqtt_accepted, 1);
    return CONTINUE;
  case UNFINISHED:
    if (!end) return STOP; /* Envoy keeps the bytes, and hands them in again with what follows */
  default:
    return refuse(context);
  }
}
EXPORT(proxy_on_upstream_data) u32 proxy_on_upstream_data(u32 context, u32 size, u32 end) { (void)context, (void)size, (void)end; return CONTINUE; }
EXPORT(proxy_on_downstream_connection_close) void proxy_on_downstream_connection_close(u32 context, u32 peer) { (void)context, (void)peer; }
EXPORT(proxy_on_upstream_connection_close) void proxy_on_upstream_connection_close(u32 context, u32 peer) { (void)context, (void)peer; }
