/* Robust and process-shared mutexes: the next owner learns that the last one died. */
#include "guest.h"
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    sem_t semaphore;
    volatile int value;
};

static pthread_mutex_t in_process;

static void *dies_holding(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&in_process);
    return NULL;
}

int main(void)
{
    struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&s->mutex, &attributes);
    pthread_condattr_t shared_condition;
    pthread_condattr_init(&shared_condition);
    pthread_condattr_setpshared(&shared_condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&s->condition, &shared_condition);
    sem_init(&s->semaphore, 1, 0);

    pid_t child = NEED(fork());
    if (!child) {
        pthread_mutex_lock(&s->mutex);
        s->value = 1;
        _exit(0); /* with the mutex held */
    }
    reap("owner", child);
    CODE(pthread_mutex_lock(&s->mutex));
    CODE(pthread_mutex_consistent(&s->mutex));
    CODE(pthread_mutex_unlock(&s->mutex));
    CODE(pthread_mutex_lock(&s->mutex));
    CODE(pthread_mutex_unlock(&s->mutex));

    child = NEED(fork());
    if (!child) {
        pthread_mutex_lock(&s->mutex);
        sem_post(&s->semaphore);
        for (;;)
            pause();
    }
    sem_wait(&s->semaphore);
    CODE(pthread_mutex_trylock(&s->mutex));
    kill(child, SIGKILL);
    reap("killed owner", child);
    CODE(pthread_mutex_lock(&s->mutex));
    CODE(pthread_mutex_unlock(&s->mutex)); /* without making it consistent */
    CODE(pthread_mutex_lock(&s->mutex));

    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_PRIVATE);
    pthread_mutex_init(&in_process, &attributes);
    pthread_t thread;
    pthread_create(&thread, NULL, dies_holding, NULL);
    pthread_join(thread, NULL);
    CODE(pthread_mutex_lock(&in_process));

    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->mutex, &attributes);
    s->value = 0;
    child = NEED(fork());
    if (!child) {
        for (int i = 0; i < 2000; i++) {
            pthread_mutex_lock(&s->mutex);
            while (s->value % 2 == 0)
                pthread_cond_wait(&s->condition, &s->mutex);
            s->value++;
            pthread_cond_signal(&s->condition);
            pthread_mutex_unlock(&s->mutex);
        }
        _exit(0);
    }
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&s->mutex);
        while (s->value % 2 == 1)
            pthread_cond_wait(&s->condition, &s->mutex);
        s->value++;
        pthread_cond_signal(&s->condition);
        pthread_mutex_unlock(&s->mutex);
    }
    reap("partner", child);
    SHOW(s->value);
    return 0;
}
