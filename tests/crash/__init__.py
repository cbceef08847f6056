"""Every call that a process makes to database, Redis and model is a point where it is killed, frozen or cut off, once.

hook            in the process under test: counts its calls, and does the harm at one of them
gunicorn_conf   brings the hook into a web process
points          what there is to be harmed, and samples of it
lane            one deployment in which one point after the other is tried
__main__        `make crash`: all points, several deployments at a time
"""
