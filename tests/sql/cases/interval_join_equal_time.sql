-- title: A join on equal times
-- data: readings rows=3000 seed=5 gap_ms=400
SELECT l.seq, r.seq AS other, l.readingTime
FROM readings AS l JOIN readings AS r ON l.sensor = r.sensor AND l.readingTime = r.readingTime AND l.status = 'fail';
