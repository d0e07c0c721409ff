/* See gang.h: lines of JSON on a pair of descriptors in the event loop. Nothing here blocks. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "daemon/gang/gang.h"

static void push(struct lines *lines) {
        ssize_t left = lines->out >= 0 ? leash_writer_push(&lines->writer, lines->out) : 0;

        if (left < 0)
                lines_close_out(lines);
        else if (lines->out_source)
                (void) sd_event_source_set_enabled(lines->out_source, left > 0 ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_writable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        push(userdata);
        return 0;
}

int lines_open(struct lines *lines, sd_event *event, int in, int out, sd_event_io_handler_t on_readable,
               void *userdata) {
        int writer = in == out ? fcntl(out, F_DUPFD_CLOEXEC, 3) : out; /* epoll takes a descriptor once */

        *lines = (struct lines) { .in = in, .out = writer };
        (void) fcntl(in, F_SETFL, O_NONBLOCK);
        (void) fcntl(writer, F_SETFL, O_NONBLOCK);
        int r = sd_event_add_io(event, &lines->in_source, in, EPOLLIN, on_readable, userdata);
        if (r >= 0)
                r = sd_event_add_io(event, &lines->out_source, writer, EPOLLOUT, on_writable, lines);
        if (r >= 0)
                r = sd_event_source_set_enabled(lines->out_source, SD_EVENT_OFF);
        return r;
}

void lines_send(struct lines *lines, json_t *line) {
        if (lines->out < 0) {
                json_decref(line);
                return;
        }
        if (leash_writer_add(&lines->writer, line) < 0)
                lines_close_out(lines); /* the other side no longer reads */
        else
                push(lines);
}

void lines_close_out(struct lines *lines) {
        lines->out_source = sd_event_source_disable_unref(lines->out_source);
        leash_writer_free(&lines->writer);
        cleanup_close_p(&lines->out);
        lines->out = -1;
}

void lines_close(struct lines *lines) {
        lines_close_out(lines);
        lines->in_source = sd_event_source_disable_unref(lines->in_source);
        leash_reader_free(&lines->reader);
        cleanup_close_p(&lines->in);
        lines->in = -1;
}
