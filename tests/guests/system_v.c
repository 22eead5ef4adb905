/* System V and POSIX inter-process communication. */
#include "guest.h"
#include <mqueue.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static void shared_memory(void)
{
    int id = OK(shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600));
    char *a = shmat(id, NULL, 0);
    TRUE(a != (char *)-1);
    pid_t child = NEED(fork());
    if (!child) {
        char *b = shmat(id, NULL, 0);
        strcpy(b, "from the child");
        _exit(0);
    }
    reap("child", child);
    say("%s", a);
    struct shmid_ds state;
    SHOW(shmctl(id, IPC_STAT, &state));
    say("size %zu attached %lu", state.shm_segsz, (unsigned long)state.shm_nattch);
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmdt(a));
    SHOW(shmdt(a));
    SHOW(shmget(0x1234567, 0, 0));
}

static int operate(int id, int number, int by, int flags)
{
    struct sembuf operation = {number, by, flags};
    return semop(id, &operation, 1);
}

static void semaphores(void)
{
    int id = OK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
    SHOW(semctl(id, 0, SETVAL, 1));
    SHOW(operate(id, 0, -1, IPC_NOWAIT));
    SHOW(operate(id, 0, -1, IPC_NOWAIT));
    SHOW(semctl(id, 0, GETVAL));
    pid_t child = NEED(fork());
    if (!child) {
        operate(id, 1, 5, SEM_UNDO);
        operate(id, 0, 1, 0);
        for (;;)
            pause();
    }
    SHOW(operate(id, 0, -1, 0)); /* sleeps for the child */
    SHOW(semctl(id, 1, GETVAL));
    kill(child, SIGKILL);
    reap("child", child);
    SHOW(semctl(id, 1, GETVAL)); /* undone */
    SHOW(semctl(id, 0, IPC_RMID));
    SHOW(operate(id, 0, 1, 0));
}

static void messages(void)
{
    struct { long type; char text[32]; } message = {3, "three"};
    int id = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
    SHOW(msgsnd(id, &message, 6, 0));
    message.type = 1;
    strcpy(message.text, "one");
    SHOW(msgsnd(id, &message, 4, 0));
    memset(&message, 0, sizeof message);
    SHOW(msgrcv(id, &message, 32, 1, 0));
    say("%ld %s", message.type, message.text);
    SHOW(msgrcv(id, &message, 2, 0, 0));
    SHOW(msgrcv(id, &message, 32, 0, 0));
    say("%ld %s", message.type, message.text);
    SHOW(msgrcv(id, &message, 32, 0, IPC_NOWAIT));
    SHOW(msgctl(id, IPC_RMID, NULL));
}

static void posix_semaphores(void)
{
    sem_t *s = sem_open("/guest-sem", O_CREAT | O_EXCL, 0600, 0);
    TRUE(s != SEM_FAILED);
    if (s == SEM_FAILED)
        return;
    pid_t child = NEED(fork());
    if (!child) {
        sem_t *again = sem_open("/guest-sem", 0);
        sem_post(again);
        _exit(0);
    }
    SHOW(sem_wait(s));
    reap("child", child);
    SHOW(sem_unlink("/guest-sem"));
    SHOW(sem_close(s));
}

int main(void)
{
    shared_memory();
    semaphores();
    messages();
    posix_semaphores();
    return 0;
}
