/* The plain blocking loop: what a C programmer writes first. plain_loop udp|tcp [PORT]
 *
 * UDP: recvfrom, sendto. TCP: a thread for each connection, recv, send. No batching, no
 * readiness, no trick; it is what rsecho's engines are compared with.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536, RECEIVE_BUFFER_BYTES = 4 << 20, STACK_BYTES = 128 << 10 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void serve_udp(int fd)
{
    static char data[BUFFER_BYTES];

    for (;;) {
        struct sockaddr_in peer;
        socklen_t peer_length = sizeof peer;
        ssize_t length =
            recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&peer, &peer_length);
        if (length >= 0)
            sendto(fd, data, (size_t)length, 0, (struct sockaddr *)&peer, peer_length);
        else if (errno != EINTR)
            die("recvfrom");
    }
}

static void *serve_connection(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char data[BUFFER_BYTES];
    ssize_t length;

    while ((length = recv(fd, data, sizeof data, 0)) > 0)
        for (ssize_t sent = 0, part; sent < length; sent += part)
            if ((part = send(fd, data + sent, (size_t)(length - sent), MSG_NOSIGNAL)) < 0)
                goto end;
end:
    close(fd);
    return NULL;
}

static void serve_tcp(int listener)
{
    const int on = 1;
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (;;) {
        pthread_t thread;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EINTR && errno != ECONNABORTED)
                die("accept");
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (pthread_create(&thread, &attributes, serve_connection, (void *)(intptr_t)fd))
            close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3 || (strcmp(argv[1], "udp") && strcmp(argv[1], "tcp"))) {
        fprintf(stderr, "usage: plain_loop udp|tcp [PORT]\n");
        return 2;
    }
    int is_tcp = !strcmp(argv[1], "tcp");
    struct sockaddr_in own = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 0)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof own;
    const int on = 1, room = RECEIVE_BUFFER_BYTES;

    int fd = socket(AF_INET, is_tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (fd < 0)
        die("socket");
    if (is_tcp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Beyond net.core.rmem_max where that is allowed, as for every server compared. */
    else if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&own, sizeof own))
        die("bind");
    if (is_tcp && listen(fd, 4096))
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&own, &length))
        die("getsockname");
    printf("listening %s://127.0.0.1:%d\n", argv[1], ntohs(own.sin_port));
    fflush(stdout);
    if (is_tcp)
        serve_tcp(fd);
    else
        serve_udp(fd);
}
