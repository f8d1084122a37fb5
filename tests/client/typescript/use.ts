// What a frontend developer writes: three lines, and every field has its type.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const api = createClient<paths>({ baseUrl: "http://localhost:8080", headers: { Authorization: "Bearer your-key" } });
const created = await api.POST("/api/v2/tasks", { body: { taskType: 2, userId: "you", app: "web", payload: "{}" } });
const taskId: string | undefined = created.data?.data?.taskId;

const listed = await api.GET("/api/v2/tasks", { params: { query: { status: "QUEUED", taskType: 2, page: 1, size: 20 } } });
const tasks: components["schemas"]["TaskDO"][] = listed.data?.data ?? [];
const message: string | undefined = listed.error?.message;

// @ts-expect-error: no such state
await api.GET("/api/v2/tasks", { params: { query: { status: "DONE" } } });
// @ts-expect-error: a task needs a payload
await api.POST("/api/v2/tasks", { body: { taskType: 2, userId: "you", app: "web" } });
// @ts-expect-error: no such endpoint
await api.GET("/api/v2/task");

export { message, taskId, tasks };
