# The curl lines of the quickstart, as they stand there.

# Check config-manager health
curl http://localhost:8081/api/config/health

curl -H "X-API-Token: readonly-token" \
  http://localhost:8081/api/config/services

curl -H "X-API-Token: readonly-token" \
  http://localhost:8081/api/config/services/stt-worker

curl -X PUT \
  -H "X-API-Token: admin-token" \
  -H "Content-Type: application/json" \
  -d '{
    "service": "stt-worker",
    "config": {
      "whisper_model": "small.en",
      "vad_threshold": 0.6
    },
    "version": 1
  }' \
  http://localhost:8081/api/config/services/stt-worker

curl -X POST \
  -H "X-API-Token: readonly-token" \
  -H "Content-Type: application/json" \
  -d '{
    "query": "whisper",
    "complexity_filter": "simple"
  }' \
  http://localhost:8081/api/config/search
