"""The nightly backup of the booking database.

The backup starts at 02:40 every night and is copied to the server in the harbour office.
Copies are deleted after 35 days. The job is watched by the host lighthouse-4.
"""

START = "02:40"
KEEP_DAYS = 35
TARGET = "lighthouse-4:/srv/backup/bookings"
