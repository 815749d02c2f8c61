/* Opens many event streams, and records the events that each client receives and does not have.
 *
 * event_clients TARGETS EVENTS PORT tls|plain BREAKS SECONDS
 *
 * TARGETS has a line for each client: its address, and the path that it requests from 127.0.0.1.
 * The program prints "ready" when all streams are open. After the command "break" on its standard
 * input, each client closes its connection about BREAKS times in SECONDS at random times, and resumes
 * with the id of its last event. After "count", the program prints the number of recorded events. At
 * the end of the input, it writes EVENTS, whose lines are the number of the client, the time in
 * nanoseconds of CLOCK_MONOTONIC, and the JSON of the event, and prints its statistics as JSON.
 *
 * The requests are HTTP/1.0, so that responses are not in chunks. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 8192
#define MAX_OPENING 64 /* clients that connect at the same time */
#define MS 1000000LL
#define SCAN_INTERVAL (10 * MS)

enum state { CLOSED, CONNECTING, HEADER, STREAM, REFUSED };

struct client {
    struct in_addr address;
    char *path;
    int socket, breaks;
    SSL *tls;
    enum state state;
    int64_t opens_at, breaks_at, last_seq;
    char last_id[160], id[160], data[4096], line[8192];
    size_t line_length;
};

static struct client *clients;
static int client_count, opening, opened, epoll, port, breaks, seconds;
static int is_running = 1;
static SSL_CTX *tls_context;
static FILE *events;
static long long received, recorded, duplicates, gaps, resets, broken, ended, refused, deferred;

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 * MS + time.tv_nsec;
}

static int64_t random_below(int64_t limit)
{
    return (int64_t)(drand48() * limit);
}

static void fail(const char *message)
{
    perror(message);
    exit(1);
}

static void close_client(struct client *client, int64_t pause)
{
    if (client->state == CONNECTING || client->state == HEADER)
        opening--;
    SSL_free(client->tls);
    client->tls = NULL;
    close(client->socket);
    client->state = CLOSED;
    client->line_length = 0;
    client->id[0] = client->data[0] = 0;
    client->opens_at = now() + pause;
}

static void open_client(struct client *client)
{
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr = client->address};
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};
    int on = 1;

    client->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->socket < 0)
        fail("socket");
    setsockopt(client->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(client->socket, (struct sockaddr *)&source, sizeof source))
        fail("bind");
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect(client->socket, (struct sockaddr *)&server, sizeof server);
    if (tls_context) {
        client->tls = SSL_new(tls_context);
        SSL_set_fd(client->tls, client->socket);
        SSL_set_connect_state(client->tls);
    }
    client->state = CONNECTING;
    opening++;
    epoll_ctl(epoll, EPOLL_CTL_ADD, client->socket, &event);
}

/* Returns 0 if the client must wait, and a negative number if the connection has ended. */
static int result(struct client *client, int count)
{
    int error;

    if (count > 0)
        return count;
    if (client->tls) {
        error = SSL_get_error(client->tls, count);
        ERR_clear_error();
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    return count < 0 && (errno == EAGAIN || errno == ENOTCONN) ? 0 : -1;
}

static int send_request(struct client *client)
{
    char text[2048];
    int length = snprintf(text, sizeof text,
                          "GET %s HTTP/1.0\r\nHost: live.example\r\nAccept: text/event-stream\r\n"
                          "%s%s%s\r\n",
                          client->path, client->last_id[0] ? "Last-Event-ID: " : "",
                          client->last_id, client->last_id[0] ? "\r\n" : "");

    return result(client, client->tls ? SSL_write(client->tls, text, length)
                                      : (int)send(client->socket, text, length, MSG_NOSIGNAL));
}

static void finish_event(struct client *client)
{
    char *seq_text = strstr(client->data, "\"seq\":");
    int64_t seq = seq_text ? atoll(seq_text + 6) : 0;

    if (client->id[0])
        strcpy(client->last_id, client->id);
    if (!client->data[0])
        return;
    received++;
    if (!seq_text) {
        resets++;
    } else if (seq <= client->last_seq) {
        duplicates++;
    } else {
        if (client->last_seq)
            gaps += seq - client->last_seq - 1;
        client->last_seq = seq;
        recorded++;
        fprintf(events, "%d %lld %s\n", (int)(client - clients), (long long)now(), client->data);
    }
    client->id[0] = client->data[0] = 0;
}

static void take_status(struct client *client, const char *line)
{
    int status = strlen(line) > 9 ? atoi(line + 9) : 0;

    if (status == 200)
        return;
    close_client(client, 1000 * MS);
    /* A client over a limit tries again. A client with 204 or 403 does not. */
    if (status == 429 || status == 503) {
        deferred++;
    } else {
        refused++;
        client->state = REFUSED;
    }
}

static void take_line(struct client *client, char *line)
{
    if (client->state == HEADER) {
        if (!strncmp(line, "HTTP/", 5)) {
            take_status(client, line);
        } else if (!line[0]) {
            client->state = STREAM;
            opening--;
            opened++;
        }
    } else if (!strncmp(line, "id: ", 4)) {
        snprintf(client->id, sizeof client->id, "%s", line + 4);
    } else if (!strncmp(line, "data: ", 6)) {
        snprintf(client->data, sizeof client->data, "%s", line + 6);
    } else if (!line[0]) {
        finish_event(client);
    }
}

static void take_bytes(struct client *client, const char *bytes, int count)
{
    for (int i = 0; i < count && client->state >= HEADER && client->state <= STREAM; i++) {
        if (bytes[i] != '\n') {
            if (bytes[i] != '\r' && client->line_length < sizeof client->line - 1)
                client->line[client->line_length++] = bytes[i];
            continue;
        }
        client->line[client->line_length] = 0;
        client->line_length = 0;
        take_line(client, client->line);
    }
}

static void proceed(struct client *client)
{
    static char bytes[65536];
    int count = 0;

    if (client->state == CONNECTING) {
        count = send_request(client);
        if (count > 0)
            client->state = HEADER;
    }
    while (client->state == HEADER || client->state == STREAM) {
        count = result(client, client->tls ? SSL_read(client->tls, bytes, sizeof bytes)
                                           : (int)recv(client->socket, bytes, sizeof bytes, 0));
        if (count <= 0)
            break;
        take_bytes(client, bytes, count);
    }
    if (count < 0 && client->state != CLOSED && client->state != REFUSED) {
        ended++;
        close_client(client, random_below(1000 * MS));
    }
}

static int64_t next_break(void)
{
    return now() + random_below(2000 * MS * seconds / breaks);
}

static void scan(void)
{
    int64_t time = now();

    for (struct client *client = clients; client < clients + client_count; client++) {
        if (client->breaks && client->breaks_at <= time && client->state == STREAM) {
            broken++;
            client->breaks--;
            client->breaks_at = next_break();
            close_client(client, random_below(500 * MS));
        }
        if (client->state == CLOSED && client->opens_at <= time && opening < MAX_OPENING)
            open_client(client);
    }
}

static void start_breaks(void)
{
    for (int i = 0; breaks && i < client_count; i++) {
        clients[i].breaks = breaks;
        clients[i].breaks_at = next_break();
    }
}

/* Returns whether the program continues. */
static int read_commands(void)
{
    char bytes[64];
    int count = read(STDIN_FILENO, bytes, sizeof bytes);

    /* The first letters identify the commands: "break" has no c, and "count" has no b. */
    for (int i = 0; i < count; i++) {
        if (bytes[i] == 'b')
            start_breaks();
        if (bytes[i] == 'c') {
            printf("%lld\n", recorded);
            fflush(stdout);
        }
    }
    return count > 0;
}

static void run(void)
{
    struct epoll_event happened[256], input = {.events = EPOLLIN};
    int64_t scanned_at = 0;
    int is_ready = 0;

    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input);
    while (is_running) {
        int count = epoll_wait(epoll, happened, 256, 10);
        for (int i = 0; i < count; i++) {
            if (happened[i].data.ptr)
                proceed(happened[i].data.ptr);
            else
                is_running = read_commands();
        }
        if (now() - scanned_at > SCAN_INTERVAL) {
            scan();
            scanned_at = now();
        }
        if (!is_ready && opened >= client_count) {
            is_ready = 1;
            printf("ready\n");
            fflush(stdout);
        }
    }
}

static void read_targets(const char *file)
{
    char address[64], path[1024];
    FILE *targets = fopen(file, "r");

    if (!targets)
        fail(file);
    while (client_count < MAX_CLIENTS && fscanf(targets, "%63s %1023s", address, path) == 2) {
        clients[client_count].path = strdup(path);
        inet_aton(address, &clients[client_count++].address);
    }
    fclose(targets);
}

int main(int count, char **arguments)
{
    struct rusage usage;

    if (count != 7)
        return 2;
    clients = calloc(MAX_CLIENTS, sizeof *clients);
    events = fopen(arguments[2], "w");
    if (!clients || !events)
        fail(arguments[2]);
    read_targets(arguments[1]);
    port = atoi(arguments[3]);
    if (!strcmp(arguments[4], "tls"))
        tls_context = SSL_CTX_new(TLS_client_method());
    breaks = atoi(arguments[5]);
    seconds = atoi(arguments[6]);
    epoll = epoll_create1(0);
    run();
    fclose(events);
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"received\": %lld, \"duplicates\": %lld, \"gaps\": %lld, \"resets\": %lld,"
           " \"breaks\": %lld, \"ended\": %lld, \"refused\": %lld, \"deferred\": %lld,"
           " \"cpu_ms\": %ld}\n",
           received, duplicates, gaps, resets, broken, ended, refused, deferred,
           (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000
               + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000);
    return 0;
}
